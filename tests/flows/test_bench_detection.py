"""The bench of detection: its mixes and its accuracy by hand, and one run on made-up files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.bench import detection
from flows.bench.detection import active_frames, balanced_accuracy, over
from flows.bench.material import Material
from pipeline.audio import write
from pipeline.detection.stage import Detection
from pipeline.songs.truth import RENDERER_VERSION, NoteTruth, Truth
from pipeline.types import Audio, Span

RATE = 48_000
TRUTH = Truth(
    kind="song",
    seed=1,
    renderer_version=RENDERER_VERSION,
    title="",
    artist="",
    licence="",
    duration=4.0,
    samples=4 * RATE,
    asked_seconds=(4.0, 4.0),
    style="",
    text="",
    voice="",
    key="C major",
    tempo=120.0,
    sections=(),
    beats=(),
    downbeats=(),
    chords=(),
    notes=(NoteTruth(1.0, 2.0, 60, "la", 0),),
    words=(),
    lyrics="",
    instruments=(),
)


def _tone(seconds: float, rate: int, hertz: float) -> Audio:
    wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return Audio(wave[None].astype(np.float32), rate)


def _folder(path: Path, truth: Truth) -> Path:
    path.mkdir()
    write(path / "mix.flac", _tone(truth.duration, RATE, 300.0))
    (path / "truth.json").write_text(truth.to_json(), encoding="utf-8")
    return path


def _found(*spans: Span) -> Detection:
    return Detection("song", 0.5, 0.0, 1.0, "", spans)


def test_balanced_accuracy_is_the_mean_of_both_recalls(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "song-1", TRUTH)
    assert balanced_accuracy(folder, _found(Span(1.0, 2.0))) == 1
    assert balanced_accuracy(folder, _found(Span(0.0, 4.0))) == pytest.approx(0.5)
    assert balanced_accuracy(folder, _found()) == pytest.approx(0.5)
    assert balanced_accuracy(folder, _found(Span(1.5, 2.5))) == pytest.approx((0.5 + 5 / 6) / 2)


def test_a_file_without_a_voice_is_judged_by_its_silence_alone(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "instrumental-1", replace(TRUTH, notes=()))
    assert balanced_accuracy(folder, _found(Span(0.0, 1.0))) == pytest.approx(0.75)


def test_frames_of_overlapping_spans() -> None:
    assert active_frames([Span(0.01, 0.03), Span(0.02, 0.04)], 5).tolist() == [False, True, True, True, False]


def test_a_mix_has_the_asked_balance_and_the_length_of_the_voice() -> None:
    voice, backing = _tone(2.0, 44_100, 1_000.0), _tone(6.0, 48_000, 200.0)
    mixed = over(voice, backing, 6.0)
    assert (mixed.sample_rate, mixed.length) == (44_100, voice.length)
    spectrum = np.abs(np.fft.rfft(mixed.samples[0]))
    assert 20 * np.log10(spectrum[2_000] / spectrum[400]) == pytest.approx(6.0, abs=0.1)
    assert np.abs(mixed.samples).max() == pytest.approx(0.89, abs=1e-3)


def test_a_voice_longer_than_the_backing_is_cut() -> None:
    assert over(_tone(6.0, 8_000, 300.0), _tone(2.0, 8_000, 200.0), 0.0).length == 16_000


def test_tones_are_instrumentals_and_the_most_frequent_kind_is_the_baseline(tmp_path: Path) -> None:
    songs = tuple(_folder(tmp_path / f"song-{n}", TRUTH) for n in range(3))
    prompt, backing = tmp_path / "prompt.wav", tmp_path / "backing.wav"
    write(prompt, _tone(1.0, 8_000, 400.0))
    write(backing, _tone(20.0, 48_000, 200.0))
    told: list[tuple[int, int]] = []
    material = Material(songs=songs, prompts=(prompt,), backings=(backing,), singers=(prompt,))
    rows = {row.measure: row for row in detection.measure(material, lambda *done: told.append(done))}
    assert told[-1][0] == told[-1][1] == len(told)
    assert rows["rendered songs called songs"].value == 0
    assert rows["rendered songs called songs"].baseline == 1  # three of five files are songs
    assert rows["real speech prompts, each alone, called speech"].baseline == 0
    assert rows["instrumentals, rendered and real, called so"].value == 1
    assert rows["vocal_active, balanced accuracy of 10 ms frames"].baseline == 0.5
    assert {row.measure for row in rows.values() if row.must} == {
        "rendered songs called songs",
        "real speech prompts, each alone, called speech",
        "instrumentals, rendered and real, called so",
    }
