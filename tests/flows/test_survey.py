"""A survey counts by columns what `in_force` counts song by song."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from stage_rows import QUIET, loud_song, song_rows

from flows.funnel import funnel
from flows.progress import progress_of
from flows.recipe import load_recipe
from flows.shards import tracks
from flows.stages.context import Context
from flows.stages.graph import NODES, gets, stage_keys
from flows.stages.stems import AugmentedFacts
from flows.survey import Survey
from pipeline.records import parquet
from pipeline.records.catalog import PART_SCHEMA, CatalogRow
from pipeline.records.ledger import Ledger, Row, Status
from pipeline.records.splits import fix_splits
from pipeline.records.values import dump
from pipeline.structure.stage import Structure

LENGTHS = (60.0, 120.0, 240.0)  # s
NOBODY_HELD_OUT = ("min_val", "min_test", "val_fraction", "test_fraction")
COPY = AugmentedFacts("pitch+1", 48_000, Structure((), (), (), 120.0, "C major"), (), ())
ends = st.sampled_from((*Status.__args__, "missing"))


def catalogue(root: Path, batches: list[list[CatalogRow]]) -> None:
    """A catalogue of songs whose files nobody ever saw."""
    (root / "catalog").mkdir()
    for number, rows in enumerate(batches):
        plain = [{name: getattr(row, name, []) for name in PART_SCHEMA.names} | {"stamps": [""]} for row in rows]
        table = pa.Table.from_pylist(plain, schema=PART_SCHEMA)
        (root / "catalog" / f"part-{number:05d}.parquet").write_bytes(parquet.encode(table))


def songs(count: int) -> list[CatalogRow]:
    return [
        replace(
            loud_song(f"{number:032x}", ["train", "train", "val", ""][number % 4]),
            uris=(f"{number}.flac",),
            duration=LENGTHS[number % 3],
        )
        for number in range(count)
    ]


def rows_of(track_id: str, told: Mapping[str, str], mean: float, stage: str) -> dict[str, Row]:
    """A row for each stage that `told` gives an end, in force or not."""
    made = song_rows(mean, stage=stage, track_id=track_id)
    made["augmentation"] = Row(track_id, "ok", values=dump(COPY))
    made["tokenization-copies"] = made["tokenization"]
    made |= {name: Row(track_id, "ok") for name in NODES if name not in made}
    spent = {"seconds": 0.5, "phases": {"work": 0.5}, "begun": 1000.0 + int(track_id, 16), "peak_bytes": 7}
    return {
        name: replace(made[name], status=end, reason="" if end == "ok" else "why", **spent)  # type: ignore[arg-type]
        for name, end in told.items()
        if end != "missing"
    }


def opened(root: Path, *overrides: str) -> Context:
    recipe = load_recipe("demo", ["augmentation.copies.share=0.5", *overrides])
    return Context(root, recipe, stage_keys(recipe))


built = st.lists(
    st.tuples(
        st.fixed_dictionaries(dict.fromkeys(NODES, st.one_of(st.just("ok"), ends))),
        st.sampled_from([QUIET, 4.0]),
        st.sampled_from(["stage1", "stage2", "rejected"]),
    ),
    min_size=1,
    max_size=14,
)


@settings(deadline=None, max_examples=8, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(told=built, scope=st.sampled_from(["all", "stage2"]))
def test_what_counts_and_who_is_wanted_is_what_the_graph_says_song_by_song(tmp_path_factory, told, scope):
    root = tmp_path_factory.mktemp("root")
    context, listed = opened(root, f"selection.gate.scope={scope}"), songs(len(told))
    catalogue(root, [listed[::2], listed[1::2]])
    fix_splits(root, context.recipe.splits.model_copy(update=dict.fromkeys(NOBODY_HELD_OUT, 0)), listed)
    ledger = Ledger(root)
    made = [rows_of(track.track_id, *facts) for track, facts in zip(listed, told, strict=True)]
    for name in NODES:
        for batch in (0, 1):
            ledger.commit(name, context.keys[name], batch, [rows[name] for rows in made[batch::2] if name in rows])
    view = Survey(context).look()
    for at, (track, rows) in enumerate(tracks(context)):
        assert view.songs["track_id"][at].as_py() == track.track_id
        assert {name for name in NODES if view.counts[name][at]} == set(rows)
        wanted = {name for name, node in NODES.items() if gets(node, context, track, rows)}
        assert {name for name in NODES if view.wanted[name][at]} == wanted
    _same_counts(context)


def _same_counts(context: Context) -> None:
    counted = {count.stage: count for count in funnel(context)}
    assert list(counted) == list(NODES)
    for name in NODES:
        mine = [(track, rows[name]) for track, rows in tracks(context) if name in rows]
        assert counted[name].seen == len(mine)
        assert counted[name].ok == sum(row.status == "ok" for _, row in mine)
        assert sum(counted[name].failed.values()) == sum(row.status == "failed" for _, row in mine)
        assert counted[name].audio_seconds == pytest.approx(math.fsum(track.duration for track, _ in mine))
        assert counted[name].seconds == pytest.approx(0.5 * len(mine))
        assert sum(counted[name].backends.values()) == sum(bool(row.backend) for _, row in mine)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    context, listed = opened(tmp_path), songs(40)
    catalogue(tmp_path, [listed[:20], listed[20:]])
    fix_splits(tmp_path, context.recipe.splits, listed)
    return context


def commit(context: Context, numbers: range, *stages: str, status: Status = "ok") -> None:
    rows = {number: rows_of(f"{number:032x}", dict.fromkeys(stages, status), 4.0, "stage2") for number in numbers}
    for name in stages:
        for batch in {number // 20 for number in numbers}:
            mine = [told[name] for number, told in rows.items() if number // 20 == batch]
            Ledger(context.root).commit(name, context.keys[name], batch, mine)


def before(stage: str) -> list[str]:
    """The stages of a build before this one."""
    return list(NODES)[: list(NODES).index(stage)]


def test_nothing_is_done_at_first_and_every_song_may_still_get_everywhere(context: Context) -> None:
    progress = progress_of(Survey(context).look())
    assert (progress.songs, progress.share, progress.eta, progress.latest) == (40, 0.0, 0.0, 0.0)
    assert progress.audio_seconds == sum(LENGTHS[number % 3] for number in range(40))
    assert progress.unknown == tuple(NODES)
    detection = next(stage for stage in progress.stages if stage.done.stage == "detection")
    assert (detection.wanted, detection.expected, detection.left) == (40, 40.0, 40.0)


def test_a_guess_at_what_is_left_follows_what_songs_got_so_far(context: Context) -> None:
    commit(context, range(5), *before("quality"))
    commit(context, range(5, 10), *before("detection"))
    commit(context, range(5, 10), "detection", status="rejected")
    stages = {stage.done.stage: stage for stage in progress_of(Survey(context).look()).stages}
    assert stages["quality"].wanted == 5
    assert stages["quality"].expected == pytest.approx(20, abs=8)  # half of 40; a draw of 30 songs
    assert stages["detection"].expected == 40


def test_the_time_that_is_left_is_work_that_is_left_over_workers(context: Context) -> None:
    commit(context, range(10), *before("quality"))  # songs of 0.5 s, one begun each second
    progress = progress_of(Survey(context).look())
    detection = next(stage for stage in progress.stages if stage.done.stage == "detection")
    assert detection.done.wall == pytest.approx(9.5)
    assert detection.eta == pytest.approx(30 / (10 / 9.5))
    first = len(before("quality"))
    assert progress.eta == pytest.approx(first * 30 * 0.5 / (first * 10 * 0.5 / 9.5))
    assert set(progress.unknown) == set(list(NODES)[first:])
    assert progress.latest == pytest.approx(1009.5)


def test_failed_songs_are_still_to_come(context: Context) -> None:
    commit(context, range(40), "detection", status="failed")
    detection = next(s for s in progress_of(Survey(context).look()).stages if s.done.stage == "detection")
    assert (detection.done.failed, detection.left) == ({"why": 40}, 40.0)


def test_an_interrupted_build_counts_what_an_undisturbed_one_counts(context: Context, tmp_path: Path) -> None:
    other = opened(tmp_path / "undisturbed")
    other.root.mkdir()  # type: ignore[union-attr]
    listed = songs(40)
    catalogue(tmp_path / "undisturbed", [listed[:20], listed[20:]])
    fix_splits(other.root, other.recipe.splits, listed)
    for name in NODES:
        rows = {n: rows_of(f"{n:032x}", {name: "ok"}, 4.0, "stage2")[name] for n in range(40)}
        for batch in (0, 1):
            mine = [rows[n] for n in range(20 * batch, 20 * batch + 20)]
            Ledger(other.root).commit(name, other.keys[name], batch, mine)
            first = [*mine[:7], replace(mine[7], status="failed", reason="worker_died")]  # then it was killed
            for part in (first, mine[7:12], mine[12:]):
                Ledger(context.root).commit(name, context.keys[name], batch, part)
    resumed, undisturbed = (progress_of(Survey(c).look()) for c in (context, other))
    assert resumed == undisturbed


def test_without_fixed_splits_no_song_gets_a_copy_and_nothing_breaks(tmp_path: Path) -> None:
    context = opened(tmp_path)
    catalogue(tmp_path, [songs(20)])
    commit(context, range(20), *before("augmentation"))
    view = Survey(context).look()
    assert view.wanted["selection"].sum() == 20
    assert view.wanted["augmentation"].sum() == 0
    assert progress_of(view).songs == 20


def test_a_second_look_sees_what_came_since(context: Context) -> None:
    survey = Survey(context)
    assert not survey.look().counts["detection"].any()
    commit(context, range(3, 6), *before("quality"))
    assert list(survey.look().counts["detection"].nonzero()[0]) == [3, 4, 5]
