"""`backline doctor` and `backline assets`: what is missing, in which words, with which exit code; no traceback ever."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner
from weights_server import serving

from flows.cli.main import commands
from flows.doctor import Lack, Machine, examine
from flows.engine.resources import resources_of
from flows.recipe import Recipe, Resources, load_recipe
from flows.requirements import NEEDS, assets_of, needs_of, weights_of
from flows.stages.graph import NODES
from pipeline.assets.known import ASSETS
from pipeline.assets.pull import install

BIG = Machine(gpus_gb=(80.0,), memory_gb=256.0, disk_gb=1000.0)
BARE = Machine(gpus_gb=(), memory_gb=8.0, disk_gb=1.0)
OFFICIAL = [
    "quality.backend=songeval", "structure.backend=songformer", "annotation.backend=qwen2_audio",
    "annotation.lyrics.backend=qwen3_asr", "conditioning.backend=clamp3",
]  # fmt: skip

ON_GPU = ("quality", "separation", "structure", "annotation", "codec", "conditioning")


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "store"


def official(*more: str) -> Recipe:
    """The recipe of the paper's systems, on a CPU but for what `more` says."""
    return load_recipe("paper", [*OFFICIAL, *(f"{section}.device=cpu" for section in ON_GPU), *more])


def of(lacks: list[Lack], kind: str) -> list[Lack]:
    return [lack for lack in lacks if lack.kind == kind]


def test_the_demo_lacks_nothing() -> None:
    result = CliRunner().invoke(commands, ["doctor", "--recipe", "demo"])
    assert (result.exit_code, result.output) == (0, "Nothing is missing for demo.\n")
    assert assets_of(load_recipe("demo")) == ()


def test_every_weight_is_named_once_with_its_size_licence_and_command() -> None:
    lacks = of(examine(official(), BIG), "weights")
    assert len(lacks) == len(assets_of(official())) >= 8
    by_command = {lack.mend: lack for lack in lacks}
    muq = by_command["backline assets pull muq --accept-licence"]
    assert muq.wanted_by == "quality, structure"
    assert muq.gigabytes == pytest.approx(1.33)
    assert muq.licence == "CC-BY-NC-4.0, no commercial use"
    assert by_command["backline assets pull qwen2-audio"].licence == "Apache-2.0"
    assert by_command["backline assets pull mert-95m --accept-licence"].gigabytes == pytest.approx(
        0.76
    )  # and converted


def test_devices_memory_and_disk() -> None:
    lacks = examine(official("annotation.device=cuda", "separation.device=cuda"), BARE)
    assert {lack.wanted_by for lack in of(lacks, "GPU")} == {"annotation", "separation"}
    assert "1.0 GB free" in of(lacks, "disk")[0].what
    assert "structure" in {lack.wanted_by for lack in of(lacks, "memory")}
    small = Machine(gpus_gb=(12.0, 16.0), memory_gb=256.0, disk_gb=1000.0)
    told = {lack.wanted_by: lack.what for lack in of(examine(official("annotation.device=cuda"), small), "GPU memory")}
    assert told["annotation"] == "needs about 25.5 GB of GPU memory, the largest GPU has 16"
    slow = of(examine(official(), BIG), "GPU")
    assert [(lack.wanted_by, lack.mend) for lack in slow] == [
        ("annotation", "--set annotation.device=cuda on a machine with a GPU")
    ]


def test_training_of_the_paper_s_model_needs_a_gpu() -> None:
    lack = next(lack for lack in examine(load_recipe("paper"), BARE) if lack.wanted_by == "training")
    assert "at least 16 GB" in lack.what  # 0.97 billion parameters of 16 bytes
    assert not [one for one in examine(load_recipe("paper"), BIG) if one.wanted_by == "training"]


def test_a_package_and_a_program_that_are_missing_are_named_with_their_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("flows.doctor.find_spec", lambda name: None)
    lacks = examine(load_recipe("demo", ["separation={backend: roformer, device: cuda}"]), BIG)
    told = {kind: [lack.mend for lack in of(lacks, kind)] for kind in ("package", "program")}
    assert told == {
        "package": ["pip install --no-deps --requirement constraints-no-deps.txt"],
        "program": ["apt-get install ffmpeg"],
    }


def test_versions_are_those_that_backline_asks_for() -> None:
    assert of(examine(load_recipe("demo"), BIG), "version") == []


def test_on_a_bare_machine_the_command_says_all_and_ends_with_1(bare: Path) -> None:
    words = ["doctor", "--recipe", "paper", *(word for text in OFFICIAL for word in ("--set", text))]
    result = CliRunner().invoke(commands, words)
    assert result.exit_code == 1
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
    for word in ("CC-BY-NC-4.0", "16.8", "backline assets pull qwen2-audio", "backline assets pull --recipe paper"):
        assert word in result.output
    told = CliRunner().invoke(commands, [*words, "--json"])
    assert told.exit_code == 1
    assert {lack["kind"] for lack in json.loads(told.output)} >= {"weights"}


def test_on_a_bare_machine_every_weight_has_a_size_its_licence_and_its_command(bare: Path) -> None:
    told = run("doctor", "--recipe", "paper", BACKLINE_ASSETS=str(bare))
    assert (told.returncode, told.stderr) == (1, "")
    rows = {row["mend"]: row for row in json.loads(run("doctor", "--recipe", "paper", "--json").stdout)}
    assert set(rows) == {line.strip() for line in told.stdout.partition("What mends them:\n")[2].splitlines()[:-1]}
    for name in assets_of(load_recipe("paper")):
        one = ASSETS[name]
        row = rows[f"backline assets pull {name}" + ("" if one.commercial else " --accept-licence")]
        assert row["gigabytes"] >= 0.01
        assert row["licence"].startswith(one.licence)
    assert "?" not in told.stdout
    assert not bare.exists()


def test_brackets_and_colons_are_printed_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A console would take them for markup: a word gone, another colour, or a traceback."""
    folder = tmp_path / "[bold] :cat: [" / "]"
    folder.mkdir(parents=True)
    (folder / "[red].yaml").write_text("base: demo\n")
    told = CliRunner().invoke(commands, ["doctor", "--recipe", str(folder / "[red].yaml")])
    assert told.output.replace("\n", "") == f"Nothing is missing for {folder / '[red].yaml'}."
    (folder / "[red].yaml").write_text("base: paper\n")
    monkeypatch.setenv("BACKLINE_ASSETS", str(folder / "store"))
    monkeypatch.setenv("COLUMNS", "400")
    install("xlm-roberta-tokenizer", tokenizer(tmp_path), check=False)
    (damaged := folder / "store" / "xlm-roberta-tokenizer" / "config.json").write_text("x")
    told = CliRunner().invoke(commands, ["doctor", "--recipe", str(folder / "[red].yaml")])
    assert told.exit_code == 1
    assert f"{damaged} has 1 bytes, not 110: it was cut off or replaced" in told.output
    assert f"backline assets pull --recipe {folder / '[red].yaml'} --accept-licence" in told.output
    for words in (("doctor", "--recipe", str(folder / "[/none].yaml")), ("status", str(folder / "[/none]"))):
        refused = run(*words)
        assert refused.returncode == 1
        assert refused.stderr.startswith("backline: ")
        assert words[-1] in refused.stderr
        assert refused.stderr.count("\n") == 1


def tokenizer(folder: Path) -> Path:
    """Files as long as those of the hub in `test_the_command_pulls_from_a_hub_verifies_and_tells_of_damage`."""
    for file in ASSETS["xlm-roberta-tokenizer"].files:
        (folder / file.path).write_bytes(file.path.encode() * 10)
    return folder


def test_a_receipt_that_is_cut_off_hides_nothing_else(tmp_path: Path, bare: Path) -> None:
    install("xlm-roberta-tokenizer", tokenizer(tmp_path), check=False)
    (bare / "xlm-roberta-tokenizer" / "receipt.json").write_text("{")
    sentence = (
        "receipt.json can't be read (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"
    )
    lacks = {lack.mend: lack.what for lack in examine(official(), BIG)}
    assert f"{sentence}: remove it first" in lacks["backline assets pull xlm-roberta-tokenizer"]
    assert len(lacks) >= 8
    rows = json.loads(CliRunner().invoke(commands, ["assets", "list", "--json"]).output)
    assert {row["name"]: row["here"] for row in rows}["xlm-roberta-tokenizer"] == "damaged"
    told = run("assets", "verify", BACKLINE_ASSETS=str(bare))
    assert told.returncode == 1
    assert told.stderr.endswith(f"{sentence}: remove it first; backline assets pull xlm-roberta-tokenizer\n")
    assert "minilm: whole" in told.stdout


def test_no_weight_file_is_of_unknown_size() -> None:
    told = CliRunner().invoke(commands, ["assets", "list", "--json"]).output
    assert [row["name"] for row in json.loads(told) if not row["gigabytes"]] == []
    small = CliRunner().invoke(commands, ["doctor", "--recipe", "paper"]).output
    (row,) = [line for line in small.splitlines() if "(xlm-roberta-tokenizer)" in line]
    assert " 0.01 " in row  # not 0.0


def test_nothing_of_a_rehearsal_is_missing() -> None:
    assert set(needs_of(official("rehearsal={}"))) == set(NEEDS)
    assert assets_of(official("rehearsal={}")) == ()


def test_weights_are_in_the_keys_once_they_are_here() -> None:
    assert weights_of("annotation", official()) == "absent absent"
    assert weights_of("annotation", load_recipe("demo")) == ""


def test_small_models_share_a_gpu_and_large_ones_do_not() -> None:
    recipe = official("annotation.device=cuda", "separation.device=cuda", "build.gpu_memory_gb=40")
    assert resources_of(NODES["annotation"].worker, recipe) == Resources(gpus=1.0, songs_seconds=1200.0)
    assert resources_of(NODES["separation"].worker, recipe) == Resources(gpus=0.25, songs_seconds=600.0)  # four of 7 GB
    unknown = official("separation.device=cuda")
    assert resources_of(NODES["separation"].worker, unknown) == Resources(gpus=1.0, songs_seconds=600.0)
    on_cpu = resources_of(NODES["annotation"].worker, official())
    assert (on_cpu.gpus, on_cpu.memory_gb) == (0.0, pytest.approx(25.5))


def test_assets_are_listed_with_all_that_is_known() -> None:
    result = CliRunner().invoke(commands, ["assets", "list", "--json"])
    rows = {row["name"]: row for row in json.loads(result.output)}
    assert set(rows) == set(ASSETS)
    assert rows["muq"]["here"] == "no"
    assert rows["muq"]["files"][0]["sha256"] is None
    assert rows["minilm"]["here"] == "yes"
    table = CliRunner().invoke(commands, ["assets", "list"]).output
    assert "hf.co/OpenMuQ/MuQ-large-msd-iter" in table
    licences = CliRunner().invoke(commands, ["assets", "licences"]).output
    assert "its LICENSE file says Apache-2.0, its README CC BY-NC-SA 4.0" in licences


def test_pulling_without_the_licence_or_without_names_is_refused() -> None:
    result = CliRunner().invoke(commands, ["assets", "pull", "muq"])
    assert result.exit_code == 1
    assert CliRunner().invoke(commands, ["assets", "pull"]).exit_code == 2
    assert CliRunner().invoke(commands, ["assets", "verify", "muq"]).exit_code == 1
    assert CliRunner().invoke(commands, ["assets", "verify", "minilm"]).exit_code == 0


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *words], env=os.environ | environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def test_the_command_pulls_from_a_hub_verifies_and_tells_of_damage(bare: Path) -> None:
    """The whole way, in processes of their own, from a hub on loopback."""
    with serving() as hub:
        for file in ASSETS["xlm-roberta-tokenizer"].files:
            hub.files[f"/FacebookAI/xlm-roberta-base/{file.path}"] = file.path.encode() * 10
        hub.cuts = [3]
        here = {"HF_ENDPOINT": hub.url, "BACKLINE_ASSETS": str(bare)}
        pulled = run("assets", "pull", "xlm-roberta-tokenizer", **here)
        assert (pulled.returncode, pulled.stdout) == (0, "xlm-roberta-tokenizer: pulled\n")
    assert run("assets", "pull", "xlm-roberta-tokenizer", "--offline", **here).stdout.endswith("already here\n")
    (bare / "xlm-roberta-tokenizer" / "config.json").write_text("x")
    broken = run("assets", "verify", "xlm-roberta-tokenizer", **here)
    assert broken.returncode == 1
    assert "has 1 bytes, not 110" in broken.stderr
    assert "Traceback" not in broken.stderr


def test_every_refusal_of_a_pull_is_one_line_and_leaves_no_file(bare: Path) -> None:
    with serving() as hub:
        for file in ASSETS["xlm-roberta-tokenizer"].files:
            hub.files[f"/FacebookAI/xlm-roberta-base/{file.path}"] = b"x"
        hub.headers["X-Linked-ETag"] = f'"{"0" * 64}"'
        here = {"HF_ENDPOINT": hub.url, "BACKLINE_ASSETS": str(bare)}
        tried = {
            "announced by the hub; nothing of it was kept": ("xlm-roberta-tokenizer",),
            "mirror [/nowhere] has no xlm-roberta-tokenizer/tokenizer.json": (
                "xlm-roberta-tokenizer", "--offline", "--mirror", "[/nowhere]",
            ),
            "which allows no commercial use; read https://": ("muq",),
            "there is no such file": ("qwen2-audio",),
        }  # fmt: skip
        for sentence, words in tried.items():
            told = run("assets", "pull", *words, **here)
            assert (told.returncode, told.stdout) == (1, "")
            assert sentence in told.stderr
            assert told.stderr.count("\n") == 1
    names = {Path(file.path).name for asset in ASSETS.values() for file in asset.files}
    assert not [path for path in bare.rglob("*") if path.name in names or path.name == "receipt.json"]


def test_a_hub_that_times_out_is_one_sentence_and_nothing_looks_pulled(bare: Path) -> None:
    with serving() as hub:
        hub.silent = True
        here = {"HF_ENDPOINT": hub.url, "BACKLINE_ASSETS": str(bare)}
        tried = run("assets", "pull", "xlm-roberta-tokenizer", "--timeout", "1", **here)
    assert (tried.returncode, tried.stdout) == (1, "")
    *attempts, told = tried.stderr.strip().splitlines()
    assert [line.endswith("going on at byte 0") for line in attempts] == [True] * 4, tried.stderr
    assert "can't be fetched: no answer for 1 s, 5 times; the 0 bytes that came stay" in told
    assert not [path for path in bare.rglob("*") if path.is_file() and path.stat().st_size > 0]
    assert run("assets", "verify", "xlm-roberta-tokenizer", **here).returncode == 1
