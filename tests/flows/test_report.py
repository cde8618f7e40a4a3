"""What a machine's memory did to the batches is told in the report, and nowhere in what others get."""

from dataclasses import replace
from pathlib import Path

from rehearsals import SONGS, rehearsal

from flows.build_dataset import BuildParameters, build_dataset
from flows.engine.batch import catalog_of
from flows.funnel import funnel
from flows.report import write_run_report
from flows.work import open_build
from pipeline.batching import OUT_OF_MEMORY
from pipeline.records.ledger import Ledger

STAGE, BATCHES = "structure", (0, 2)


def remarked(build: BuildParameters) -> int:
    """Let the songs of some batches have shrunk theirs at one stage; how many there are."""
    context, songs = open_build(build), 0
    ledger, key = Ledger(context.root), context.keys[STAGE]
    for batch in BATCHES:
        rows = list(ledger.rows(STAGE, key, batch).values())
        told = [replace(row, message=f"MuQ: batch 8 -> 4, {OUT_OF_MEMORY}") for row in rows]
        ledger.commit(STAGE, key, batch, told, force=True)
        songs += len(told)
    return songs


def files_of(dataset: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dataset.iterdir()}


def test_batches_that_shrank_are_in_the_report_and_in_no_file_of_the_dataset(
    prefect: None, tiny: Path, undisturbed: str, tmp_path: Path
) -> None:
    build = rehearsal(tiny, tmp_path / "root")
    dataset = tmp_path / "root" / "datasets" / open_build(build).recipe.name
    build_dataset(build)
    before = files_of(dataset)
    songs = remarked(build)
    assert 0 < songs < SONGS
    for path in dataset.iterdir():
        path.unlink()

    again = build_dataset(build)
    assert again.worked == 0
    assert again.dataset is not None
    assert again.dataset.manifest_sha256 == undisturbed
    assert files_of(dataset) == before  # shards, sidecars, manifest, both cards: to the byte
    context = open_build(build)
    assert len(catalog_of(context.root).batches()) > len(BATCHES)
    assert {count.stage: count.shrunk for count in funnel(context) if count.shrunk} == {STAGE: songs}
    (tmp_path / "report").mkdir()
    page = write_run_report(tmp_path / "report", dataset, tmp_path / "no checkpoint", "test").read_text("utf-8")
    assert f"{STAGE} ({songs}). The setting" in page
