"""Statistics of a build: closed forms, and nothing that depends on how rows came to lie in parts."""

import math
from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.tally import BACKEND, COLUMNS, GAP, MESSAGE, StageStatistics, by_batch, merged, union
from pipeline.batching import in_batches, remarks
from pipeline.records.ledger import SCHEMA, Row, Status

KEY = "0a1b2c3d"
LENGTH = 240.0  # s of every song here


def table(rows: list[tuple[int, Row]]) -> pa.Table:
    """What a scan gives, from (batch, row)."""
    names = (*COLUMNS, *BACKEND, *MESSAGE)
    columns = {name: [getattr(row, name) for _, row in rows] for name in names}
    columns["phases"] = [list(row.phases.items()) for _, row in rows]
    schema = pa.schema([*(SCHEMA.field(name) for name in names), ("batch", pa.int32())])
    return pa.table(columns | {"batch": [batch for batch, _ in rows]}, schema=schema)


def statistics(rows: list[tuple[int, Row]]) -> dict[int, StageStatistics]:
    return by_batch("quality", KEY, table(rows), np.full(len(rows), LENGTH))


def song(number: int, begun: float, seconds: float = 1.0, status: Status = "ok", **more: object) -> Row:
    told = {"seconds": seconds, "phases": {"work": seconds}, "begun": begun, "peak_bytes": 100 * number} | more
    return Row(f"{number:032x}", status, **told)  # type: ignore[arg-type]


def test_two_workers_side_by_side_take_half_the_wall_time_of_their_work() -> None:
    rows = [(0, song(number, begun=1000.0 + number // 2, seconds=1.0)) for number in range(20)]
    told = statistics(rows)[0]
    assert (told.seen, told.ok, told.seconds, told.wall) == (20, 20, 20.0, 10.0)
    assert told.songs_per_second == 2.0
    assert told.audio_per_second == 20 * LENGTH / 10
    assert told.peak_bytes == 1900
    assert told.phases == {"work": 20.0}


def test_a_pause_between_two_runs_is_no_work_and_the_hand_over_between_songs_is() -> None:
    first = [(0, song(n, begun=1000.0 + 1.5 * n, seconds=1.0)) for n in range(4)]  # 0.5 s between songs
    second = [(0, song(n, begun=9000.0 + n, seconds=1.0)) for n in range(2)]
    told = statistics(first + second)[0]
    assert told.runs == ((1000.0, 1005.5), (9000.0, 9002.0))
    assert told.songs_per_second == pytest.approx(6 / 7.5)


def test_batches_that_run_at_once_share_the_wall_time_and_gaps_between_batches_count_for_nobody() -> None:
    rows = [(0, song(1, 1000.0)), (1, song(2, 1000.5)), (2, song(3, 1000.0 + 0.9 * GAP))]
    told = merged("quality", KEY, statistics(rows).values())
    assert told.runs == ((1000.0, 1001.5), (1009.0, 1010.0))


def test_loading_a_model_takes_wall_time_but_is_no_work_on_a_song() -> None:
    told = statistics([(0, song(1, 1000.0, 2.0, phases={"load": 6.0, "decode": 0.5, "work": 1.5}))])[0]
    assert (told.seconds, told.wall) == (2.0, 8.0)
    assert told.phases == {"load": 6.0, "decode": 0.5, "work": 1.5}


def test_every_end_is_counted_by_its_reason() -> None:
    dropped: list[tuple[Status, str]] = [("rejected", "speech")] * 3 + [("rejected", "quiet"), ("quarantined", "torn")]
    ends = [*dropped, ("failed", "MemoryError"), ("ok", "")]
    told = statistics([(0, song(n, 1.0, status=end, reason=reason)) for n, (end, reason) in enumerate(ends)])[0]
    assert (told.ok, told.seen, told.settled) == (1, 7, 6)
    assert told.rejected == {"quiet": 1, "speech": 3}
    assert (told.quarantined, told.failed) == ({"torn": 1}, {"MemoryError": 1})


def test_rows_that_do_not_say_when_they_were_made_count_and_leave_the_rates_alone() -> None:
    old = Row("a" * 32, "ok", seconds=5.0)
    told = statistics([(0, song(1, 1000.0, 2.0)), (0, old)])[0]
    assert (told.seen, told.timed, told.seconds, told.wall) == (2, 1, 7.0, 2.0)
    assert told.songs_per_second == 0.5
    assert math.isnan(statistics([(0, old)])[0].songs_per_second)
    assert math.isnan(merged("quality", KEY, []).audio_per_second)


def test_backends_are_counted_where_a_row_names_one() -> None:
    rows = [(0, song(n, 1.0, backend="toy" if n else "", licence="CC0-1.0")) for n in range(3)]
    assert statistics(rows)[0].backends == {("toy", "", "CC0-1.0"): 2}


def test_songs_whose_batch_had_to_shrink_are_counted_beside_other_messages() -> None:
    with remarks() as made:
        in_batches([1, 2, 3], 3, _holding_one, "MuQ")
    told = {0: "\n".join(made), 1: "torn at 3 s\n" + made[0], 2: "", 3: "CUDA error: an illegal instruction"}
    rows = [(number % 2, song(number, 1.0, message=message)) for number, message in told.items()]
    found = statistics(rows)
    assert [found[0].shrunk, found[1].shrunk, merged("quality", KEY, found.values()).shrunk] == [1, 1, 2]
    unread = table(rows).drop_columns(["message"])
    assert by_batch("quality", KEY, unread, np.full(4, LENGTH))[0].shrunk == 0


def _holding_one(pieces: Sequence[int]) -> Sequence[int]:
    if len(pieces) > 1:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return pieces


intervals = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=20)


@given(intervals, st.integers(0, 3))
def test_a_union_covers_what_its_intervals_cover_and_small_gaps(spans: list[tuple[int, int]], gap: int) -> None:
    starts, ends = (np.array(side, dtype=float) for side in ([a for a, _ in spans], [a + d for a, d in spans]))
    found = union(starts, ends, gap)
    assert all(a <= b for a, b in found)
    assert all(before[1] + gap < after[0] for before, after in pairwise(found))
    assert all(any(a <= start and end <= b for a, b in found) for start, end in zip(starts, ends, strict=True))
    seconds = {s for start, end in zip(starts, ends, strict=True) for s in range(int(start), int(end))}
    assert sum(b - a for a, b in union(starts, ends)) == len(seconds)


made = st.builds(
    song,
    number=st.integers(0, 9),
    begun=st.sampled_from([0.0, 100.0, 101.5, 130.0]),
    seconds=st.sampled_from([0.0, 0.25, 2.0]),
    status=st.sampled_from(Status.__args__),
    reason=st.sampled_from(["", "quiet", "torn"]),
)


@settings(deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 2), made), max_size=12), data=st.data())
def test_neither_the_order_of_rows_nor_their_split_into_parts_matters(
    rows: list[tuple[int, Row]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(rows))
    whole, again = statistics(rows), statistics(shuffled)
    assert whole.keys() == again.keys()
    for batch in whole:
        same(whole[batch], again[batch])
    per_batch = [statistics([row for row in rows if row[0] == batch]) for batch in range(3)]
    apart = [told for found in reversed(per_batch) for told in found.values()]
    same(merged("quality", KEY, whole.values()), merged("quality", KEY, apart))
    one = statistics([(0, row) for _, row in rows])
    if one:  # all in one batch: sums are those over batches
        total = merged("quality", KEY, whole.values())
        assert (one[0].seen, one[0].failed, one[0].timed) == (total.seen, total.failed, total.timed)
        assert one[0].phases == pytest.approx(total.phases)


def same(one: StageStatistics, other: StageStatistics) -> None:
    for item in fields(StageStatistics):
        mine, theirs = getattr(one, item.name), getattr(other, item.name)
        if item.name == "runs":
            assert np.allclose(mine, theirs)
        else:
            assert mine == (pytest.approx(theirs) if isinstance(mine, float | dict) else theirs)
