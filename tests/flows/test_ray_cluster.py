"""The Ray engine on two nodes, one of which is killed in mid-stage: nothing lost, nothing twice, the same bytes."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from private_servers import wait_for
from tiny_build import Job, build, outcome, write_library

from flows.engine.attempt import Item
from flows.engine.engine import OnRow
from flows.engine.local import LocalEngine
from flows.engine.ray import RayEngine
from flows.recipe import BuildConfig
from flows.stages.context import Context
from pipeline.records.entries import ATTEMPT_PREFIX
from pipeline.records.ledger import Row

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SONGS = 16
TRIES = 4


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that takes no songs, and a node with two CPUs that lives on."""
    pytest.importorskip("ray.cluster_utils")
    made = started(new_cluster)
    started(lambda: made.add_node(num_cpus=2))
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()


def new_cluster() -> Any:
    from ray.cluster_utils import Cluster

    return Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})


def started(start: Callable[[], Any]) -> Any:
    """What it starts; a node whose helpers need more than Ray's own 15 s, on a busy machine, is started again."""
    for _ in range(TRIES - 1):
        with suppress(Exception):  # Ray raises no narrower one
            return start()
    return start()


class Watched:
    """An engine; `then` is called once, after so many songs of all stages."""

    def __init__(self, engine: RayEngine, after: int, then: Callable[[], None]) -> None:
        self.engine, self.after, self.then = engine, after, then
        self.seen: Counter[tuple[str, str]] = Counter()

    def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
        def take(row: Row) -> None:
            on_row(row)
            self.seen[worker, row.track_id] += 1
            if self.seen.total() == self.after:
                self.then()

        return self.engine.run(worker, context, items, take)

    def close(self) -> None: ...


def test_a_node_killed_in_mid_stage_loses_nothing(cluster: Any, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    write_library(library, SONGS)
    with LocalEngine(workers=2) as local:
        build(Job(str(tmp_path / "local"), str(library), batch_size=SONGS), local)
    expected = outcome(tmp_path / "local")
    doomed = started(lambda: cluster.add_node(num_cpus=2))
    cluster.wait_for_nodes()
    root = tmp_path / "ray"
    with RayEngine(BuildConfig(song_attempts=1)) as engine:
        watched = Watched(engine, SONGS * 2 + 5, lambda: cluster.remove_node(doomed, allow_graceful=False))
        build(Job(str(root), str(library), ("rehearsal.sleep=0.2",), batch_size=SONGS), watched)  # type: ignore[arg-type]
        # a busy machine hears of the death after the build's end
        wait_for(lambda: sorted(one.has[0] for one in engine._cluster.machines()) == [0.0, 2.0], None, "a death", 60)
    assert set(watched.seen.values()) == {1}
    assert not list(root.glob(f"{ATTEMPT_PREFIX}*"))  # what the engine had put there for machines to look for
    assert outcome(root) == expected
