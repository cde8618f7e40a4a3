"""`backline generate` as a command: many voices and takes, a trace beside each file, a section played anew."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from flows.cli.main import commands
from model import checkpoint
from model.checkpoint import Progress
from model.config import ModelConfig, TrainRun
from model.network import MaskPredictor
from pipeline.codec.codec import token_count

TINY = ModelConfig(layers=1, width=16, heads=2, kv_heads=1, head_dim=8, ffn=32, prefix_width=384)
LENGTHS = {"me.wav": (48_000, 48_000), "you.flac": (30_870, 44_100)}  # samples, sample rate: 1.0 s and 0.7 s


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    network = MaskPredictor(TINY.model_copy(update={"init_std": 0.2}), rtd=True)
    checkpoint.save(folder / "final", network.state_dict(), TrainRun(model=TINY), Progress(step=1), None)
    return folder


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("voices")
    for name, (samples, rate) in LENGTHS.items():
        soundfile.write(folder / name, 0.1 * np.sin(2 * np.pi * 220 * np.arange(samples) / rate), rate)
    return [folder / name for name in LENGTHS]


def generate(run: Path, *words: object) -> str:
    done = CliRunner().invoke(commands, ["generate", "--checkpoint", str(run), "--steps", "3", *map(str, words)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def trace(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
    return found


def test_every_voice_and_take_has_its_file_its_mix_and_its_trace(run: Path, voices: list[Path], tmp_path: Path) -> None:
    asked = ["--vocal", voices[0], "--vocal", voices[1], "--takes", 2, "--seed", 5, "--text", "folk"]
    told = generate(run, *asked, "--out", tmp_path / "out", "--mix", tmp_path / "mix")
    generate(run, *asked, "--out", tmp_path / "alone", "--batch", 1)
    names = [f"{voice.stem}-seed{seed}.wav" for voice in voices for seed in (5, 6)]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.wav")) == sorted(names)
    for name, voice, seed in zip(names, [voices[0], voices[0], voices[1], voices[1]], (5, 6, 5, 6), strict=True):
        samples = round(soundfile.info(voice).duration * 48_000)
        for folder in ("out", "mix"):
            info = soundfile.info(tmp_path / folder / name)
            assert (info.frames, info.samplerate, info.channels) == (samples, 48_000, 2)
        found = trace(tmp_path / "out" / name)
        assert (found["vocal"], found["text"], found["seed"]) == (str(voice), "folk", seed)
        assert (found["sampler"]["steps"], found["sampler"]["seed"]) == (3, seed)
        assert set(found["seconds"]) == {"encode", "denoise", "decode"}
        assert min(found["seconds"].values()) > 0
        assert (found["samples_48k"], len(found["codes"])) == (samples, token_count(samples))
        assert found["codes"] == trace(tmp_path / "alone" / name)["codes"], "a batch changes memory and time alone"
        assert str(tmp_path / "out" / name) in told
    assert len({tuple(trace(tmp_path / "out" / name)["codes"]) for name in names}) == 4


def test_a_section_is_played_anew_and_the_rest_stays(run: Path, voices: list[Path], tmp_path: Path) -> None:
    first, again = tmp_path / "band.wav", tmp_path / "band-2.wav"
    generate(run, "--vocal", voices[0], "--out", first)
    section = ["--keep", first, "--from-seconds", 0.2, "--to-seconds", 0.6, "--seed", 9]
    generate(run, "--vocal", voices[0], "--out", again, *section)
    before, after = np.array(trace(first)["codes"]), np.array(trace(again)["codes"])
    assert np.flatnonzero(before != after).size
    assert set(np.flatnonzero(before != after)) <= set(range(5, 15))  # 25 codes a second
    assert trace(again)["kept"] == str(first)


def test_settings_of_the_sampler_are_changed_and_traced(run: Path, voices: list[Path], tmp_path: Path) -> None:
    asked = ["--vocal", voices[0], "--text", "folk", "--out"]
    generate(run, *asked, tmp_path / "plain.wav")
    generate(run, *asked, tmp_path / "led.wav", "--set", "sampler.guidance_text=4", "--set", "sampler.top_k=20")
    plain, led = trace(tmp_path / "plain.wav"), trace(tmp_path / "led.wav")
    assert (led["sampler"]["guidance_text"], led["sampler"]["top_k"], led["sampler"]["steps"]) == (4.0, 20, 3)
    assert led["codes"] != plain["codes"]


def test_a_section_of_nothing_is_refused(run: Path, voices: list[Path], tmp_path: Path) -> None:
    words = ["generate", "--checkpoint", str(run), "--vocal", str(voices[0]), "--out", str(tmp_path / "band.wav")]
    done = CliRunner().invoke(commands, [*words, "--from-seconds", "0.2"])
    assert done.exit_code == 2
    assert "give --keep" in done.output
