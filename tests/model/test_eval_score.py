"""The whole evaluation on a toy codec: floors below, ceiling above, every number seeded and written."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from model.config import SamplerConfig
from model.evaluation import results
from model.evaluation.floors import fit, partner, random_codes, song_seed, through_codec
from model.evaluation.measures import Judges, mix
from model.evaluation.nll import HeldOut
from model.evaluation.score import Item, Subject, evaluate
from model.evaluation.settings import EvaluationSettings, OnsetConfig
from pipeline.audio import decode, loudness_gain_db, peak_dbfs, rms_dbfs, write
from pipeline.codec.codec import SAMPLE_RATE, SAMPLES_PER_CODE, Codec, CodecSpec, Codes, token_count
from pipeline.errors import BadInput
from pipeline.quality.stage import Quality
from pipeline.types import Audio

SECONDS = 5
LENGTH = SECONDS * SAMPLE_RATE + 123  # no whole number of codes
SETTINGS = EvaluationSettings(onset=OnsetConfig(chance_draws=3), bootstrap_draws=200, warmup_seconds=1.0)


class ToneCodec:
    """A code is the pitch (128 steps) and the level (128 steps) of 40 ms: a real, lossy codec, far from music."""

    spec = CodecSpec("tone", "f" * 64, "ours", window_tokens=0, hop_samples=0, phases=1, context_frames=0)
    pitches = 55 * 2 ** (np.arange(128) / 16)

    def encode(self, audio: Audio) -> Codes:
        count = token_count(audio.length)
        mono = np.pad(audio.mono().samples[0], (0, count * SAMPLES_PER_CODE - audio.length)).reshape(count, -1)
        spectrum = np.abs(np.fft.rfft(mono * np.hanning(SAMPLES_PER_CODE), 4 * SAMPLES_PER_CODE))
        peak = spectrum.argmax(axis=1) * SAMPLE_RATE / (4 * SAMPLES_PER_CODE)
        pitch = np.abs(np.log(np.maximum(peak, 1))[:, None] - np.log(self.pitches)).argmin(axis=1)
        level = np.clip(np.sqrt((mono**2).mean(axis=1)) * 256, 0, 127).astype(int)
        return (pitch * 128 + level).astype(np.uint16)[None]

    def decode(self, codes: Codes) -> Audio:
        pitch, level = self.pitches[codes // 128], (codes % 128) / 256 * math.sqrt(2)
        phase = 2 * np.pi * np.cumsum(np.repeat(pitch, SAMPLES_PER_CODE)) / SAMPLE_RATE
        signal = (np.sin(phase) * np.repeat(level, SAMPLES_PER_CODE)).astype(np.float32)
        return Audio(np.stack([signal, signal]), SAMPLE_RATE)


CODEC: Codec = ToneCodec()


class Spectrum:
    """Six band energies a second."""

    name, weights_sha256 = "bands", ""

    def __call__(self, audio: Audio) -> np.ndarray:
        rows = audio.mono().samples[0][: audio.length // SAMPLE_RATE * SAMPLE_RATE].reshape(-1, SAMPLE_RATE)
        bands = np.array_split(np.abs(np.fft.rfft(rows))[:, :4000], 6, axis=1)
        return np.stack([np.log(band.mean(axis=1) + 1e-3) for band in bands], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Played:
    accompaniment: Audio
    seconds: Mapping[str, float]


class Cheat:
    """Knows the right answer for every vocal, by its first samples; plays it through the codec, or another level."""

    def __init__(self, answers: list[tuple[Audio, Audio]]) -> None:
        self.answers = answers
        self.calls: list[tuple[int, str | None, int]] = []

    def __call__(
        self, vocal: Audio, text: str | None, reference: Audio | None, sampler: SamplerConfig, seed: int
    ) -> Played:
        self.calls.append((vocal.length, text, seed))
        for known, truth in self.answers:
            if known.length == vocal.length and np.allclose(known.samples, vocal.samples, atol=1e-3):
                return Played(through_codec(CODEC, truth), {"encode": 0.1, "denoise": 0.2, "decode": 0.3})
        return Played(vocal, {})


def melody(seed: int, length: int = LENGTH) -> Audio:
    """Struck notes of pitches from the codec's range, in a tempo of each seed's own."""
    rng = np.random.default_rng(seed)
    step = SAMPLES_PER_CODE * (6 + seed % 5)
    time = np.arange(step) / SAMPLE_RATE
    notes = [
        np.sin(2 * np.pi * ToneCodec.pitches[rng.integers(30, 70)] * time) * np.exp(-8 * time) * rng.uniform(0.2, 0.4)
        for _ in range(length // step + 1)
    ]
    signal = np.concatenate(notes)[:length].astype(np.float32)
    return Audio(np.stack([signal, signal]), SAMPLE_RATE)


@dataclass(frozen=True)
class World:
    items: list[Item]
    subject: Subject
    judges: Judges
    cheat: Cheat


def item(key: str, vocal: Path, accompaniment: Path, text: str) -> Item:
    """A song whose files are as loud as they sound."""
    return Item(key, vocal, accompaniment, text, partial(decode, str(vocal)), partial(decode, str(accompaniment)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    items, answers, folder = [], [], tmp_path_factory.mktemp("stems")
    for n in range(3):
        paths = [folder / f"{n}.{name}.flac" for name in ("vocal", "accompaniment")]
        for path, audio in zip(paths, (melody(100 + n), melody(n)), strict=True):
            write(path, audio)
        answers.append((decode(str(paths[0])), decode(str(paths[1]))))
        items.append(item(f"song{n}", *paths, "calm" if n else ""))

    def rate(audio: Audio) -> Quality:
        names = ("level", "clipping", "bandwidth", "noise", "hum")
        return Quality({name: 3.0 + min(1.0, audio.duration / 100) for name in names}, 3.05)

    cheat = Cheat(answers)
    judges = Judges(CODEC, rate, lambda audio: 0.25, Spectrum(), "toy")
    return World(items, Subject(cheat, SamplerConfig(steps=2), "toy/step-1", "abc", "cpu"), judges, cheat)


def run(world: World, out: Path, held_out: HeldOut | None = None) -> results.Results:
    return evaluate(world.items, world.subject, world.judges, SETTINGS, out, held_out)


@dataclass(frozen=True)
class Ran:
    found: results.Results
    folder: Path
    calls: list[tuple[int, str | None, int]]


@pytest.fixture(scope="module")
def ran(world: World, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("out")
    world.cheat.calls.clear()
    held_out = HeldOut(("song0", "song1"), (5.0, 5.2), (7.0, 7.1), math.log(16_384))
    found = run(world, folder, held_out)
    return Ran(found, folder, list(world.cheat.calls))


def test_a_model_that_cheats_reaches_the_ceiling_and_beats_the_floors(ran: Ran) -> None:
    found = ran.found
    for name in ("onset_f1", "chroma_framewise", "fad"):
        score = found.score(name)
        assert score.value == pytest.approx(score.ceiling), name
        assert [floor.verdict for floor in score.floors] == ["beats"] * len(score.floors), name
    assert found.score("onset_f1").value > 0.8 > found.score("onset_f1").chance
    assert [f.name for f in found.score("onset_f1").floors] == ["random_codes", "other_song"]
    assert [f.name for f in found.score("fad").floors] == ["random_codes"]
    assert "Too few frames" not in found.score("fad").note  # 15 frames of 6 dimensions
    assert found.score("singing_share").floors == ()
    assert found.score("singing_share").truth == 0.25


def test_scores_have_counts_intervals_and_speeds(ran: Ran) -> None:
    found = ran.found
    assert {score.n for score in found.scores if score.name != "nll"} == {3}
    interval = found.score("onset_f1").interval
    assert interval is not None
    assert interval.low <= found.score("onset_f1").value <= interval.high
    assert found.score("rtf_generation").value == pytest.approx(0.2 / (LENGTH / SAMPLE_RATE))
    assert set(found.phases) == {"encode", "denoise", "decode", "total"}
    assert found.score("quality_mean").label == "The five together"
    assert [(f.name, f.verdict) for f in found.score("nll").floors] == [("uniform", "beats"), ("unigram", "beats")]


def test_audio_is_written_as_long_as_the_vocal(world: World, ran: Ran) -> None:
    for item in world.items:
        for folder in ("generated", "mixes"):
            assert decode(str(ran.folder / folder / f"{item.key}.flac")).length == LENGTH


def test_generation_gets_text_or_none_and_its_own_seed(world: World, ran: Ran) -> None:
    warm_up, *calls = ran.calls
    assert warm_up[:2] == (SAMPLE_RATE, None)
    assert [text for _, text, _ in calls] == [None, "calm", "calm"]
    assert [seed for _, _, seed in calls] == [song_seed(0, item.key) for item in world.items]


def test_results_survive_the_file(ran: Ran) -> None:
    assert results.read(ran.folder / "results.json") == ran.found


def test_a_second_run_repeats_to_the_digit(world: World, ran: Ran, tmp_path: Path) -> None:
    again = run(replace(world, items=world.items[:2]), tmp_path)
    for first, second in zip(ran.found.songs[:2], again.songs, strict=True):
        kept = {name: values for name, values in first.systems.items() if name != "other_song"}
        assert {name: values for name, values in second.systems.items() if name != "other_song"} == kept


def test_file_tells_what_was_measured_with_what(ran: Ran) -> None:
    data = json.loads((ran.folder / "results.json").read_text())
    assert data["schema_version"] == results.SCHEMA_VERSION
    made = data["provenance"]
    assert (made["codec"], made["embedder"], made["rater"], made["device"]) == ("tone", "bands", "toy", "cpu")
    assert (made["settings"]["seed"], made["sampler"]["steps"], made["config_hash"]) == (0, 2, "abc")
    assert any("the model beats random codes" in line for line in data["statements"])
    assert set(data["songs"][0]["systems"]) == {"model", "truth", "random_codes", "other_song", "codec"}


def test_results_of_another_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"schema_version": 0}))
    with pytest.raises(ValueError, match="evaluate again"):
        results.read(path)


def test_one_song_has_no_neighbour_and_no_intervals(world: World, tmp_path: Path) -> None:
    found = run(replace(world, items=world.items[:1]), tmp_path)
    score = found.score("onset_f1")
    assert score.interval is None
    assert [(f.name, f.verdict) for f in score.floors] == [("random_codes", "unclear")]


def test_a_song_that_can_not_be_used_is_skipped_and_named(world: World, tmp_path: Path) -> None:
    broken = tmp_path / "broken.flac"
    broken.write_bytes(b"not audio")
    items = [world.items[0], item("bad", broken, broken, "")]
    found = run(replace(world, items=items), tmp_path)
    assert list(found.skipped) == ["bad"]
    assert [song.key for song in found.songs] == ["song0"]
    assert "other_song" not in found.songs[0].systems  # its neighbour was the broken one
    with pytest.raises(BadInput, match="none of the 1 test songs"):
        run(replace(world, items=items[1:]), tmp_path)


@pytest.mark.parametrize(("samples", "says"), [(0, "holds no audio"), (SAMPLE_RATE, "is silent")])
def test_a_stem_with_nothing_to_hear_is_skipped_by_name(world: World, tmp_path: Path, samples: int, says: str) -> None:
    nothing = Audio(np.zeros((2, samples), dtype=np.float32), SAMPLE_RATE)
    for name in ("vocal", "accompaniment"):
        bad = replace(world.items[1], **{f"load_{name}": lambda: nothing})
        found = run(replace(world, items=[world.items[0], bad]), tmp_path)
        assert f"the {name} of song1 {says}" in found.skipped["song1"]


def test_stems_are_heard_as_their_loaders_give_them_however_short(world: World, tmp_path: Path) -> None:
    vocal, band = melody(100, 3 * SAMPLE_RATE), melody(0, 3 * SAMPLE_RATE)
    loud = Audio(4 * band.samples, SAMPLE_RATE)  # above full scale: its file could hold it only at another level
    heard = []

    def listen(audio: Audio) -> float:
        heard.append(audio)
        return 0.0

    song = replace(world.items[0], load_vocal=lambda: vocal, load_accompaniment=lambda: loud)
    judges = replace(world.judges, singing_share=listen)
    found = run(replace(world, items=[song], judges=judges), tmp_path)
    assert not found.skipped
    assert any(np.array_equal(audio.samples, loud.samples) for audio in heard)


def test_wrong_length_no_songs_and_twins_are_refused(world: World, tmp_path: Path) -> None:
    def short(vocal: Audio, *_: object) -> Played:
        return Played(Audio(vocal.samples[:, :-1], SAMPLE_RATE), {})

    with pytest.raises(ValueError, match="lengths must be equal"):
        run(replace(world, subject=replace(world.subject, generate=short)), tmp_path)
    with pytest.raises(ValueError, match="test split is empty"):
        run(replace(world, items=[]), tmp_path)
    with pytest.raises(ValueError, match="share keys"):
        run(replace(world, items=world.items[:1] * 2), tmp_path)


def test_random_codes_play_at_the_level_that_generation_has() -> None:
    noise = random_codes(CODEC, LENGTH, 60.0, seed=1)
    assert noise.length == LENGTH
    assert peak_dbfs(noise) == pytest.approx(-1.0, abs=1e-3)  # never louder
    quieter = random_codes(CODEC, LENGTH, -20.0, seed=1)
    assert rms_dbfs(quieter) == pytest.approx(rms_dbfs(random_codes(CODEC, LENGTH, 0.0, seed=1)) - 20, abs=0.1)
    assert not np.array_equal(quieter.samples, random_codes(CODEC, LENGTH, -20.0, seed=2).samples)


def test_the_ceiling_keeps_length_and_level() -> None:
    truth = melody(5)
    heard = through_codec(CODEC, truth)
    assert heard.length == truth.length
    assert rms_dbfs(heard) == pytest.approx(rms_dbfs(truth), abs=1.5)
    assert loudness_gain_db(truth) != 0


def test_neighbours_and_fitting() -> None:
    assert [partner(i, 3) for i in range(3)] == [1, 2, 0]
    assert partner(0, 1) is None
    short = Audio(np.arange(3, dtype=np.float32)[None], SAMPLE_RATE)
    assert fit(short, 7).samples.tolist() == [[0, 1, 2, 0, 1, 2, 0]]
    assert fit(short, 2).samples.tolist() == [[0, 1]]
    assert song_seed(0, "a") != song_seed(1, "a") != song_seed(0, "b")


def test_a_mix_never_clips_and_keeps_the_balance() -> None:
    loud = Audio(np.full((2, 100), 0.9, dtype=np.float32), SAMPLE_RATE)
    both = mix(loud, loud)
    assert np.abs(both.samples).max() <= 1.0
    soft = Audio(np.full((1, 100), 0.1, dtype=np.float32), SAMPLE_RATE)
    assert mix(soft, soft).samples == pytest.approx(np.full((2, 100), 0.2))
    with pytest.raises(ValueError, match="one length"):
        mix(loud, Audio(loud.samples[:, :50], SAMPLE_RATE))
