"""The whole chain on a small library: build, rerun, gates, verify, story, train, generate, evaluate."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from flows.build_dataset import BuildParameters, BuildResult, build_dataset
from flows.cli.main import commands
from flows.funnel import funnel
from flows.provenance import PROVENANCE, from_json
from flows.recipe import load_recipe
from flows.shards import tracks
from flows.work import open_build
from model.shards import manifest_sha256
from pipeline.records.catalog import Catalog
from pipeline.records.ledger import Ledger
from pipeline.records.sharding import EmptySplitError, read_manifest
from pipeline.records.verify import verify

pytestmark = pytest.mark.timeout(600)
TRAINING = """\
base: demo
name: demo
sampler: {steps: 4}
model: {layers: 2, width: 64, heads: 2, kv_heads: 1, head_dim: 32, ffn: 96}
evaluation: {nll: {draws: 1}, warmup_seconds: 0.0, bootstrap_draws: 100}
training:
  stages:
    - {name: stage1, split: train-stage1, crop_tokens: 64, steps: 30, accumulation: 1, learning_rate: 3.0e-3,
       warmup_steps: 1}
    - {name: stage2, split: train-stage2, crop_tokens: 128, steps: 3, accumulation: 1, learning_rate: 1.0e-3,
       warmup_steps: 1}
"""


def stage_rows(parameters: BuildParameters) -> dict[str, int]:
    """How many rows each stage has at this recipe's keys."""
    counts: dict[str, int] = {}
    for _, rows in tracks(open_build(parameters)):
        for stage in rows:
            counts[stage] = counts.get(stage, 0) + 1
    return counts


def parts(root: Path) -> dict[str, int]:
    """Every committed part of the ledger and its time of change."""
    return {str(path): path.stat().st_mtime_ns for path in (root / "stages").rglob("part-*.parquet")}


def with_settings(parameters: BuildParameters, *settings: str) -> BuildParameters:
    return parameters.model_copy(update={"overrides": [*parameters.overrides, *settings]})


def test_songs_pass_and_everything_else_has_a_reason(built: BuildResult, parameters: BuildParameters) -> None:
    counts = {count.stage: count for count in funnel(open_build(parameters))}
    assert counts["detection"].ok == 4
    assert counts["detection"].rejected == {"speech": 1}
    assert counts["detection"].quarantined == {"unreadable": 2, "missing": 1}
    assert not any(count.failed for count in counts.values())
    assert counts["tokenization"].ok == 4


def test_dataset_holds_every_split_and_is_whole(built: BuildResult) -> None:
    assert built.dataset is not None
    assert built.dataset.samples["train-stage1"] == 2
    assert built.dataset.samples["val"] == built.dataset.samples["test"] == 1
    assert verify(built.dataset.directory) == []
    assert "true-stems" in (built.dataset.directory / "README.md").read_text()


def test_second_build_does_nothing_and_writes_the_same_bytes(
    built: BuildResult, parameters: BuildParameters, root: Path
) -> None:
    assert built.dataset is not None
    before = parts(root)
    again = build_dataset(parameters)
    assert again.worked == 0
    assert parts(root) == before
    assert again.dataset is not None
    assert again.dataset.manifest_sha256 == built.dataset.manifest_sha256


def test_raised_gate_redoes_selection_and_nothing_before_it(
    built: BuildResult, parameters: BuildParameters, root: Path
) -> None:
    before = parts(root)
    raised = with_settings(parameters, "selection.gate.threshold=5")
    with pytest.raises(EmptySplitError, match="train-stage2"):
        build_dataset(raised)
    added = {Path(path).parent.name.rsplit("-", 1)[0] for path in parts(root).keys() - before.keys()}
    assert added == {"selection"}
    assert build_dataset(parameters).worked == 0  # the old gate's work is still there


def test_lowered_gate_runs_the_missing_stages_for_the_new_songs_alone(
    prefect: None, parameters: BuildParameters, tmp_path: Path
) -> None:
    scores = {track.track_id: 0.0 for track, _ in tracks(open_build(parameters))}
    for track, rows in tracks(open_build(parameters)):
        if "quality" in rows:
            scores[track.track_id] = json.loads(rows["quality"].values)["mean"]
    songs = sorted(score for score in scores.values() if score)
    border = (songs[1] + songs[2]) / 2  # two songs above, two below
    gated = parameters.model_copy(update={"root": str(tmp_path), "stages": ["detection", "quality", "structure"]})
    high = with_settings(gated, "selection.gate.scope=all", f"selection.gate.threshold={border}")
    build_dataset(high)
    assert stage_rows(high)["structure"] == 2
    low = with_settings(high, "selection.gate.threshold=1.0")
    result = build_dataset(low)
    assert result.worked == 2  # structure of the two newly admitted songs, nothing else
    assert stage_rows(low)["structure"] == 4


def test_failed_batch_fails_alone_and_the_next_build_mends_it(
    prefect: None, parameters: BuildParameters, library: Path, tmp_path: Path
) -> None:
    one = with_settings(
        parameters.model_copy(update={"root": str(tmp_path), "stages": ["detection"]}), "library.batch_size=5"
    )
    context = open_build(one)
    block = Ledger(tmp_path).directory("detection", context.keys["detection"]) / "part-00001.parquet"
    block.mkdir(parents=True)  # where the ledger wants to write a file
    with pytest.raises(Exception, match="detection batch 1"):
        build_dataset(one)
    assert len(Ledger(tmp_path).rows("detection", context.keys["detection"], 0)) == 5
    block.rmdir()
    assert build_dataset(one).worked == 3
    assert Catalog(tmp_path).batches() == [0, 1]


def test_why_tells_the_story_of_a_song_and_of_a_broken_file(built: BuildResult, root: Path, library: Path) -> None:
    run = CliRunner()
    page = run.invoke(commands, ["why", "--root", str(root), "page.mp3"], env={"COLUMNS": "200"})
    assert page.exit_code == 0, page.output
    assert "unreadable" in page.output
    song = run.invoke(commands, ["why", "--root", str(root), str(library.parent / "song" / "song-40" / "mix.flac")])
    assert all(stage in song.output for stage in ("detection", "separation", "tokenization")), song.output


def test_chain_trains_generates_and_evaluates(built: BuildResult, library: Path, tmp_path: Path, root: Path) -> None:
    from flows.evaluate_model import EvaluateParameters, evaluate_model
    from flows.train_model import TrainParameters, train_model

    assert built.dataset is not None
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TRAINING)
    run, out = tmp_path / "run", tmp_path / "report"
    dataset = str(built.dataset.directory)
    train_model(TrainParameters(recipe=str(recipe), dataset=dataset, out=str(run)))
    check_card(run, built.dataset.directory)
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    held_out = [line["val_nll"] for line in logged if "val_nll" in line]
    assert held_out[-1] < np.log(16_384) - 0.05  # nats a token; what knowing nothing costs

    voice, band = library.parent / "song" / "song-43" / "vocal.flac", tmp_path / "band.wav"
    command = ["generate", "--checkpoint", str(run), "--vocal", str(voice), "--out", str(band), "--seed", "3"]
    made = CliRunner().invoke(commands, [*command, "--text", "a folk song", "--mix", str(tmp_path / "mix.wav")])
    assert made.exit_code == 0, made.output
    sound, rate = soundfile.read(band)
    assert (len(sound), rate) == (soundfile.info(voice).frames, 48_000)
    assert np.sqrt(np.mean(sound**2)) > 1e-4
    assert np.abs(sound).max() < 1.0
    assert json.loads(Path(f"{band}.json").read_text())["seed"] == 3

    report = evaluate_model(EvaluateParameters(recipe=str(recipe), checkpoint=str(run), dataset=dataset, out=str(out)))
    page, results = report.read_text(), json.loads((out / "results.json").read_text())
    assert "song" in page
    assert {score["name"] for score in results["scores"]} >= {"onset_f1", "chroma_framewise", "nll"}
    assert len(list((out / "generated").glob("*.flac"))) == 1


def check_card(run: Path, dataset: Path) -> None:
    """The weights go with a card that says what they learnt from and by whose weights, under which terms."""
    text = (run / "final" / "README.md").read_text(encoding="utf-8")
    assert (run / "final" / "model.safetensors").is_file()
    assert text == (run / "README.md").read_text(encoding="utf-8")
    assert f"dataset `demo` (manifest {manifest_sha256(dataset)[:16]})" in text
    known = from_json((dataset / PROVENANCE).read_text(encoding="utf-8"))
    assert {maker.stage for maker in known.makers} >= {"separation", "tokenization", "conditioning"}
    for maker in known.makers:
        line = f"| {maker.stage} | {maker.backend} | {maker.weights_sha256 or 'none'} | {maker.licence or 'none'} |"
        assert line in text
    for licence, songs in known.licences.items():
        assert f"| {licence or 'not stated'} | {songs} |" in text


def test_manifest_names_the_stages_that_made_it(built: BuildResult, parameters: BuildParameters) -> None:
    assert built.dataset is not None
    manifest = read_manifest(built.dataset.directory)
    assert dict(manifest.stages) == dict(open_build(parameters).keys)
    assert len(manifest.extra["empty_text"]) == load_recipe("demo").model.prefix_width
