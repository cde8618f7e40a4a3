"""`--recipe paper` from the first command to a dataset, with tiny stand-ins in the published files' place.

Nothing of ours is replaced: the files come from a mirror folder, pickles go through the restricted reader, every
network is built by its port's own loader and hears the songs.
"""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_library import write_manifest
from tiny_paper import pull_all, write_mirror
from typer.testing import CliRunner, Result

from flows.build_dataset import BuildParameters
from flows.cli.main import commands
from flows.doctor import Machine, examine
from flows.model_card import trained_card
from flows.provenance import PROVENANCE, from_json
from flows.recipe import load_recipe
from flows.requirements import assets_of
from flows.shards import tracks
from flows.stages.context import value_of
from flows.work import open_build
from pipeline.assets.store import held
from pipeline.errors import BackendUnavailable
from pipeline.quality.songeval.network import NAMES
from pipeline.quality.stage import Quality
from pipeline.records.schema import Sample
from pipeline.records.sharding import grouped_members, read_manifest
from pipeline.records.verify import verify
from pipeline.separation.stage import build as build_separator
from pipeline.structure.stage import Structure
from pipeline.types import Audio

pytestmark = pytest.mark.timeout(600)
CPU = Machine(gpus_gb=(), memory_gb=16.0, disk_gb=100.0)
ON_CPU = [f"{s}.device=cpu" for s in ("quality", "separation", "structure", "annotation", "codec", "conditioning")]
SETTINGS = [  # for songs of half a minute that untrained networks take apart
    *ON_CPU, "splits.min_val=1", "splits.min_test=1", "conditioning.reference_seconds=5.12",
    "tokenization.reference_hop_seconds=2.56", "augmentation.copies.share=1.0", "selection.require_chorus=false",
    "selection.doubtful=stage2", "artifacts.max_accompaniment_singing=1.0", "artifacts.max_vocal_leak=100.0",
    "artifacts.max_accompaniment_leak=100.0", "annotation.caption.max_tokens=8", "annotation.lyrics.max_tokens=8",
    "build.workers=1",
    "build.resources={separation: {songs_seconds: 600}, tokenization: {songs_seconds: 600},"
    " tokenization-copies: {songs_seconds: 600}}",  # several songs at once, as on a GPU
]  # fmt: skip
BACKENDS = {
    "quality": "songeval", "separation": "demucs", "structure": "songformer", "annotation": "qwen2_audio+qwen3_asr",
    "tokenization": "mucodec", "tokenization-copies": "mucodec",
}  # fmt: skip


def backline(*words: str) -> Result:
    return CliRunner().invoke(commands, list(words))


def options() -> list[str]:
    return [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mirror(tmp_path_factory.mktemp("mirror"), *assets_of(load_recipe("paper")), "bsrnn")


@pytest.fixture(scope="module")
def store(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine's store with every stand-in pulled."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BACKLINE_ASSETS", str(folder))
        pull_all(mirror, *assets_of(load_recipe("paper")), "bsrnn")
    return folder


@pytest.fixture
def here(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKLINE_ASSETS", str(store))


def test_pulling_asks_for_the_licence_and_looks_at_what_came(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-ins are not the published files: what says how long or with which hash those are is refused."""
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path))
    words = ["assets", "pull", "--recipe", "paper", "--offline", "--mirror", str(mirror)]
    refused = backline(*words)
    assert refused.exit_code == 1
    assert "muq: MuQ large, Million Song iteration (muq) comes under CC-BY-NC-4.0" in refused.output
    assert "clamp3: pulled" in refused.output
    assert not (tmp_path / "muq").exists()
    told = backline(*words, "--accept-licence")
    assert told.exit_code == 1
    assert "muq: pulled" in told.output
    assert "not the 4291866472 that were published; nothing of it was kept" in told.output
    assert list((tmp_path / "mucodec").rglob("*.pt*")) == []
    assert "has MD5" in told.output  # SongFormer's
    assert "is not the file of the repository" in told.output  # SongEval's


def test_a_machine_with_all_weights_lacks_nothing(here: None) -> None:
    verified = backline("assets", "verify", "--recipe", "paper")
    assert verified.exit_code == 0
    assert verified.output.count(": whole") == len(assets_of(load_recipe("paper"))) == 12
    small = ("--set", "model={shape: tiny, prefix_width: 768}")  # the paper's model itself learns on a GPU alone
    told = backline("doctor", "--recipe", "paper", *options(), *small)
    assert (told.exit_code, told.output) == (0, "Nothing is missing for paper.\n")
    gpu = Machine(gpus_gb=(80.0,), memory_gb=256.0, disk_gb=1000.0)
    assert examine(load_recipe("paper"), gpu) == []  # as it is written


def test_either_separator_is_named_where_it_is_missing_and_loads_where_it_is_not(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Audio(np.random.default_rng(0).normal(0, 0.1, (2, 44_100)).astype(np.float32), 44_100)
    for backend, name in (("demucs", "demucs-htdemucs"), ("bsrnn", "bsrnn")):
        recipe = load_recipe("paper", [*ON_CPU, f"separation.backend={backend}"])
        monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path))
        lacks = [lack for lack in examine(recipe, CPU) if lack.wanted_by == "separation"]
        assert [lack.mend.split(" --")[0] for lack in lacks] == [f"backline assets pull {name}"]
        with pytest.raises(BackendUnavailable, match=f"backline assets pull {name}"):
            build_separator(recipe.separation)
        monkeypatch.setenv("BACKLINE_ASSETS", str(store))
        assert [lack for lack in examine(recipe, CPU) if lack.wanted_by == "separation"] == []
        stems = build_separator(recipe.separation)(noise)
        assert np.abs(stems.vocal.samples).max() > 0


@pytest.mark.parametrize(
    ("damage", "told"),
    [("cut", "it was cut off or replaced"), ("flip", "another SHA-256"), ("gone", "is missing")],
)
def test_a_damaged_file_is_one_sentence_and_the_build_does_not_begin_with_it(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, told: str
) -> None:
    shutil.copytree(store / "musicfm", tmp_path / "musicfm")
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path))
    path = tmp_path / "musicfm" / "pretrained_msd.pt.safetensors"
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-1], "flip": content[:-1] + bytes([content[-1] ^ 1]), "gone": b""}[damage])
    if damage == "gone":
        path.unlink()
    verified = backline("assets", "verify", "musicfm")
    assert verified.exit_code == 1
    assert told in verified.output
    assert verified.output.rstrip().endswith("; backline assets pull musicfm")
    with pytest.raises(BackendUnavailable, match=told):
        held("musicfm")


@pytest.fixture(scope="module")
def songs(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of the small library's songs: one of each split, the last with true stems."""
    with library.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return write_manifest(tmp_path_factory.mktemp("songs") / "library.csv", [rows[number] for number in (0, 1, 3)])


def test_recipe_paper_builds_a_dataset(prefect: None, songs: Path, here: None, tmp_path: Path) -> None:
    words = ["build", "--recipe", "paper", "--library", str(songs), "--root", str(tmp_path), *options()]
    told = backline(*words)
    assert told.exit_code == 0, (told.output, told.exception)
    dataset = tmp_path / "datasets" / "paper"
    assert verify(dataset) == []
    check_records(tmp_path, songs)
    check_dataset(dataset)
    assert "Nothing to do" in backline(*words).output


def check_records(root: Path, songs: Path) -> None:
    """Every row says by whose weights it was made, and under which licence."""
    parameters = BuildParameters(recipe="paper", library=str(songs), root=str(root), overrides=SETTINGS)
    found = [rows for _, rows in tracks(open_build(parameters))]
    assert len(found) == 3
    made = [(stage, row) for rows in found for stage, row in rows.items() if stage in BACKENDS]
    assert {(stage, row.status, row.backend) for stage, row in made if row.backend != "true-stems"} == {
        (stage, "ok", backend) for stage, backend in BACKENDS.items()
    }
    assert all(len(row.weights_sha256) == 64 for _, row in made if row.backend != "true-stems")
    licences = {row.licence for stage, row in made if stage in ("quality", "tokenization")}
    assert all("CC-BY-NC-4.0 (non-commercial, accepted)" in licence for licence in licences)
    for rows in found:
        assert value_of(rows, "quality", Quality).scores.keys() == set(NAMES)
        assert value_of(rows, "quality", Quality).mean > 3.5  # the paper's gate
        assert value_of(rows, "structure", Structure).sections[-1].end > 15


def check_dataset(dataset: Path) -> None:
    """Codes of MuCodec and vectors of CLaMP3, in shards that a training run of the paper would take."""
    samples = [sample for shard in read_manifest(dataset).shards for sample in samples_of(dataset / shard.file)]
    assert {sample.info.split for sample in samples} == {"train", "val", "test"}
    assert "stretch-1.1" in {sample.info.augmentation for sample in samples} or len(samples) > 3  # a copy of the song
    assert {(sample.info.codec.window_tokens, sample.info.codec.hop_samples) for sample in samples} == {
        (1024, 1_966_560)
    }
    assert {sample.text.shape[1] for sample in samples} == {load_recipe("paper").model.prefix_width} == {768}
    train = next(sample for sample in samples if sample.info.split == "train")
    assert len(train.accompaniment) == 5  # balanced as often as the paper's recipe says, and as it was
    by = {record.stage: record for record in train.info.backends}
    assert (by["quality"].backend, by["conditioning"].backend) == ("songeval", "clamp3")
    assert "non-commercial, accepted" in by["conditioning"].licence
    card = (dataset / "README.md").read_text(encoding="utf-8")
    assert "Weights that made this set allow no commercial use" in card
    assert "mucodec CC-BY-NC-4.0 (non-commercial, accepted)" in card
    assert f"| conditioning | clamp3 | {by['conditioning'].weights_sha256[:16]} |" in card
    check_model_card(dataset)


def check_model_card(dataset: Path) -> None:
    """A model that learns from the set names every weight behind it in full, with its terms."""
    known = from_json((dataset / PROVENANCE).read_text(encoding="utf-8"))
    card = trained_card(load_recipe("paper", SETTINGS).train_run(), "mine", dataset)
    assert {"songeval", "demucs", "songformer", "mucodec", "clamp3"} <= {maker.backend for maker in known.makers}
    for maker in known.makers:
        assert f"| {maker.stage} | {maker.backend} | {maker.weights_sha256 or 'none'} | {maker.licence} |" in card
    assert "Weights that made this model allow no commercial use" in card


def samples_of(tar: Path) -> list[Sample]:
    return [Sample.from_files(members) for _, members in grouped_members(tar)]
