"""Whose weights a key means: the same on machines that have them and on machines that don't, or nothing begins."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.main import commands
from flows.engine.attempt import load
from flows.recipe import Recipe, load_recipe
from flows.requirements import ABSENT, pinned, require_weights, weights_of
from flows.stages.context import Context
from flows.stages.graph import stage_keys
from flows.work import Work, open_build
from pipeline.assets.known import ASSETS
from pipeline.assets.pull import install
from pipeline.assets.store import asset, held, published_fingerprint
from pipeline.errors import BackendUnavailable

SONGEVAL = "quality.backend=songeval"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without weights."""
    use(tmp_path / "bare", monkeypatch)


def use(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKLINE_ASSETS", str(store))


def bring(folder: Path, content: str = "a") -> None:
    """Something in the places of MuQ and of SongEval's head; nothing here reads it."""
    folder.mkdir(exist_ok=True)
    for name in ("model.safetensors", "config.json"):
        (folder / name).write_text(content)
    for name in ("muq", "songeval"):
        install(name, folder, check=False)


def recipe(*more: str) -> Recipe:
    return load_recipe("demo", [SONGEVAL, *more])


def test_a_pinned_recipe_has_the_same_keys_with_and_without_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(tmp_path / "made")
    plain, taken = recipe(), pinned(recipe())
    keys = stage_keys(plain)
    assert taken.weights == {name: held(name).weights_sha256 for name in ("muq", "songeval")}
    assert stage_keys(taken) == keys
    use(tmp_path / "elsewhere", monkeypatch)
    assert stage_keys(taken) == keys
    assert stage_keys(plain)["quality"] != keys["quality"]
    assert stage_keys(plain)["separation"] == keys["separation"]  # has no part in it
    require_weights(["quality"], taken)


def test_published_hashes_are_pins_that_nobody_has_to_write(caplog: pytest.LogCaptureFixture) -> None:
    codec = load_recipe("demo", ["codec.backend=mucodec"])
    assert weights_of("codec", codec) == " ".join(asset(name).files[0].sha256 for name in ("mucodec", "mucodec-vae"))
    assert published_fingerprint(ASSETS["muq"]) == ""
    require_weights(["codec"], codec)
    told = "MuCodec: quantiser and flow-matching decoder (mucodec) is not on this machine, so the stages that load it"
    assert caplog.messages[0].startswith(told)  # before days of other stages
    assert caplog.messages[0].endswith("backline assets pull mucodec --accept-licence")
    assert len(caplog.messages) == 2


def test_a_build_does_not_begin_with_weights_that_nobody_knows(tmp_path: Path) -> None:
    assert weights_of("quality", recipe()) == f"{ABSENT} {ABSENT}"
    told = r"weights muq, songeval are not on this machine.*; backline assets pull muq --accept-licence.*assets pin"
    for stages in (["quality"], ["selection"], ["shards"]):
        with pytest.raises(BackendUnavailable, match=told):
            open_build(Work.model_validate({"root": str(tmp_path), "overrides": [SONGEVAL], "stages": stages}))
    for stage in ("detection", "separation"):
        begun = open_build(Work.model_validate({"root": str(tmp_path), "overrides": [SONGEVAL], "stages": [stage]}))
        assert begun.recipe.weights == {}
    open_build(Work.model_validate({"root": str(tmp_path), "overrides": [SONGEVAL, "rehearsal={}"]}))


def test_a_build_says_that_weights_are_damaged_not_that_they_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(tmp_path / "made")
    file = held("muq").path("model.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    told = r"weights muq are not on this machine as they were pulled \(.*model\.safetensors has \d+ bytes, not \d+"
    with pytest.raises(BackendUnavailable, match=told):
        require_weights(["quality"], recipe())


def test_other_weights_than_the_pinned_ones_are_refused_where_they_would_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(tmp_path / "made")
    taken = pinned(recipe())
    use(tmp_path / "elsewhere", monkeypatch)
    bring(tmp_path / "other", "b")
    told = "weights muq on this machine have SHA-256 .*, recipe 'demo' pins .*; pull those"
    with pytest.raises(BackendUnavailable, match=told):
        require_weights(["quality"], taken)
    with pytest.raises(BackendUnavailable, match=told):  # a worker, on whichever machine of a cluster
        load("flows.stages.listening:QualityWorker", Context(tmp_path, taken, stage_keys(taken)))


def test_the_command_prints_lines_for_a_recipe(tmp_path: Path) -> None:
    bring(tmp_path / "made")
    path = tmp_path / "mine.yaml"
    path.write_text("base: demo\nquality: {backend: songeval}\n")
    told = CliRunner().invoke(commands, ["assets", "pin", "--recipe", str(path)])
    assert told.exit_code == 0
    with path.open("a") as file:
        file.write(told.stdout)
    assert load_recipe(str(path)) == pinned(load_recipe(str(path)))
    missing = CliRunner().invoke(commands, ["assets", "pin"])
    assert missing.exit_code == 1
    assert "not here, and of unknown hash: demucs-htdemucs" in missing.output
    assert f"mucodec: {asset('mucodec').files[0].sha256}" in missing.output
