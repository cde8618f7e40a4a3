"""Fill the report page from the ledger, the training run and the evaluation."""

from collections.abc import Iterator
from pathlib import Path

from flows.funnel import funnel
from flows.held_out import held_out_items, root_of
from flows.recipe import Recipe, dataset_recipe
from flows.shards import tracks
from flows.stages.context import Context, Rows, value_of
from flows.stages.graph import NODES
from flows.tally import StageStatistics
from model.evaluation import results
from model.evaluation.report import write_report
from model.evaluation.report_data import (
    BackendLine,
    Fact,
    FunnelStage,
    Histogram,
    RejectedSong,
    ReportData,
    SongPanel,
    read_metrics,
)
from pipeline.quality.stage import Quality
from pipeline.records.catalog import CatalogRow
from pipeline.records.sharding import read_manifest

NOTES = (
    "The embedded codec hears one channel up to 12 kHz and plays two equal channels.",
    "The quality scores rate the recording, not the music: random codes can score well on them.",
)
PLAYERS = 12  # rejected songs that can be listened to; a page of thousands would not open
PANELS = 6  # test songs with spectrograms


def write_run_report(out: Path, dataset: Path, checkpoint: Path, split: str) -> Path:
    """``report.html`` of a build, a training run and an evaluation; what is missing is left out of the page."""
    manifest = read_manifest(dataset)
    built_with = dataset_recipe(dataset)
    context = Context(root_of(dataset), built_with, {stage: manifest.stages[stage] for stage in NODES})
    scored = out / "results.json"
    run = checkpoint if (checkpoint / "metrics.jsonl").is_file() else checkpoint.parent
    metrics = run / "metrics.jsonl"
    counts, told = funnel(context), list(tracks(context))
    data = ReportData(
        title=f"Backline, recipe {built_with.name}",
        facts=_facts(told, dataset),
        funnel=tuple(funnel_stage(count) for count in counts),
        histograms=tuple(_histograms(told, built_with)),
        training=read_metrics(metrics) if metrics.is_file() else (),
        results=results.read(scored) if scored.is_file() else None,
        songs=tuple(_panels(out, dataset, split)),
        rejected=tuple(_rejected(told))[:PLAYERS],
        backends=tuple(_backends(counts)),
        notes=NOTES,
    )
    path = out / "report.html"
    write_report(data, path)
    return path


def _facts(told: list[tuple[CatalogRow, Rows]], dataset: Path) -> tuple[Fact, ...]:
    samples: dict[str, int] = {}
    for shard in read_manifest(dataset).shards:
        samples[shard.split] = samples.get(shard.split, 0) + shard.samples
    hours = sum(track.duration for track, _ in told) / 3600
    held = ", ".join(f"{name} {count}" for name, count in samples.items())
    return (Fact("songs in", str(len(told))), Fact("hours of audio", f"{hours:.2f}"), Fact("samples", held))


def funnel_stage(count: StageStatistics) -> FunnelStage:
    """One line of the funnel, as the page draws it."""
    return FunnelStage(
        stage=count.stage,
        seen=count.seen,
        ok=count.ok,
        rejected=count.rejected,
        quarantined=count.quarantined,
        failed=sum(count.failed.values()),
        seconds=count.seconds,
        failures=count.failed,
        phases=count.phases,
        songs_per_second=count.songs_per_second,
        audio_per_second=count.audio_per_second,
        peak_bytes=count.peak_bytes,
        shrunk=count.shrunk,
    )


def _histograms(told: list[tuple[CatalogRow, Rows]], recipe: Recipe) -> Iterator[Histogram]:
    """The mean, with the gate that cuts it, then the five scores."""
    rated = [value_of(rows, "quality", Quality) for _, rows in told if _ok(rows, "quality")]
    if not rated:
        return
    yield Histogram("the five together", tuple(q.mean for q in rated), recipe.selection.gate.threshold)
    for name in rated[0].scores:
        yield Histogram(name, tuple(q.scores[name] for q in rated))


def _panels(out: Path, dataset: Path, split: str) -> Iterator[SongPanel]:
    for number, item in enumerate(held_out_items(dataset, split)[:PANELS], start=1):
        generated, mix = out / "generated" / f"{item.key}.flac", out / "mixes" / f"{item.key}.flac"
        if generated.is_file():
            yield SongPanel(
                key=item.key,
                title=f"Held-out song {number}",
                text=item.text,
                vocal=item.vocal,
                generated=generated,
                truth=item.accompaniment,
                mix=mix if mix.is_file() else None,
            )


def _rejected(told: list[tuple[CatalogRow, Rows]]) -> Iterator[RejectedSong]:
    for track, rows in told:
        for stage, row in rows.items():
            if row.status != "ok":
                path = Path(track.uri)
                audio = path if path.is_file() and row.status == "rejected" else None
                title = "/".join(path.parts[-2:])
                yield RejectedSong(title, stage, f"{row.reason}: {row.message}".strip(": ")[:200], audio)


def _backends(counts: list[StageStatistics]) -> Iterator[BackendLine]:
    for count in counts:
        for backend, weights, licence in sorted(count.backends):
            yield BackendLine(count.stage, backend, weights, licence)


def _ok(rows: Rows, stage: str) -> bool:
    return stage in rows and rows[stage].status == "ok"
