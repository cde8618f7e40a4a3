"""The trainer of the structure networks, on a few seconds of clicks."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from pipeline.detection.stage import DetectionConfig
from pipeline.detection.stage import build as build_detector
from pipeline.structure.corpus import read, targets
from pipeline.structure.examples import CROP, beat_example, form_example
from pipeline.structure.fitting import Fit
from pipeline.structure.stage import StructureConfig, build
from pipeline.structure.train import StructureTrainingConfig, lay_all, train
from pipeline.types import Audio

RATE, BEAT = 16_000, 0.5
TINY = StructureTrainingConfig(beat_steps=3, beat_batch=2, form_steps=3, form_batch=2, key_steps=3)


def write_song(folder, seed, soundfile, beats=40):
    """Clicks on every beat over a chord, and the truth of it."""
    rng, seconds = np.random.default_rng(seed), beats * BEAT
    t = np.arange(int(seconds * RATE)) / RATE
    sound = sum(0.1 * np.sin(2 * np.pi * f * t) for f in (131, 165, 196)) + 0.2 * np.exp(-40 * (t % BEAT)) * rng.normal(
        size=len(t)
    )
    folder.mkdir(parents=True)
    soundfile.write(folder / "mix.flac", sound, RATE)
    times = [round(i * BEAT, 3) for i in range(beats)]
    truth = {
        "seed": seed, "kind": "song", "key": "Db major", "beats": times, "downbeats": times[::4],
        "sections": [{"start": 0, "end": 8, "label": "verse"}, {"start": 8, "end": seconds, "label": "chorus"}],
        "words": [{"start": 1, "end": 4, "text": "la"}, {"start": 4.2, "end": 7, "text": "la"}], "title": "not needed",
    }  # fmt: skip
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    soundfile = pytest.importorskip("soundfile")
    root = tmp_path_factory.mktemp("songs")
    return [write_song(root / f"song-{seed}", seed, soundfile) for seed in (1, 2)]


@pytest.fixture(scope="module")
def songs(folders, tmp_path_factory):
    return read(folders, tmp_path_factory.mktemp("cache"), build_detector(DetectionConfig()), lambda phase, done: None)


def test_what_is_read_of_a_song(songs):
    song = songs[0]
    assert (song.tonic, song.mode) == (1, 0)
    assert [label for _, _, label in song.sections] == [1, 3]
    assert [(s.start, s.end) for s in song.sung] == [(1, 7)]  # a breath apart is one stretch
    grid = lay_all(song).sung
    labels, boundary = targets(song, grid)
    assert labels.tolist() == [1] * 16 + [3] * 24
    assert np.flatnonzero(boundary).tolist() == [0, 16]


def test_a_beat_example_moves_the_beats_with_the_sound(songs):
    mel, target = beat_example(songs[0], np.random.default_rng(3))
    assert mel.shape == (64, CROP)
    assert target.shape == (2, CROP)
    rise = np.maximum(0, np.diff(mel, prepend=mel[:, :1])).mean(axis=0)
    beats = np.flatnonzero(target[0] == 1)
    assert rise[np.clip(beats[:, None] + np.arange(-2, 3), 0, CROP - 1)].max(axis=1).mean() > 3 * np.median(rise)
    assert set(np.flatnonzero(target[1] == 1)) <= set(beats)


def test_the_same_draw_gives_the_same_example(songs):
    grid = lay_all(songs[0]).detected
    first, second = (form_example(grid, targets(songs[0], grid), np.random.default_rng(5)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len(first[0]) == len(first[1]) == len(first[2]) == len(first[3])


def test_held_out_seeds_are_refused(folders, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    held = write_song(tmp_path / "song-900000", 900_000, soundfile, beats=20)
    with pytest.raises(ValueError, match=r"900000.*limit 500000"):
        train([held], tmp_path / "w.safetensors", TINY)


def test_no_song_is_refused(tmp_path):
    with pytest.raises(ValueError, match="backline songs render"):
        train([], tmp_path / "w.safetensors", TINY)


def test_training_makes_weights_that_the_stage_loads(folders, tmp_path):
    out = tmp_path / "w.safetensors"
    report = train(folders, out, TINY)
    assert (report.songs, len(report.beat_loss), len(report.form_loss)) == (2, 3, 3)
    assert not (tmp_path / "w.safetensors.parts").exists()
    with safe_open(out, framework="pt") as file:
        assert all(file.get_tensor(name).dtype == torch.float16 for name in file.keys())  # noqa: SIM118
    extractor = build(StructureConfig(weights=str(out)))
    assert extractor.licence == TINY.licence
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 5 * RATE)).astype(np.float32)
    assert extractor(Audio(noise, RATE)).sections[-1].end == pytest.approx(5.0)


def test_a_run_that_was_stopped_ends_with_the_same_weights(songs, tmp_path):
    def fit(path, steps):
        network = torch.nn.Conv1d(4, 2, 3)
        run = Fit(network, 6, 1e-2, 1e-3, seed=1)

        def loss(rng):
            if len(run.losses) == steps:
                raise KeyboardInterrupt
            return network(torch.from_numpy(rng.normal(size=(1, 4, 9))).float()).square().mean()

        run.run(path, loss, lambda phase, done: None)
        return network.state_dict()

    whole = fit(tmp_path / "whole-1.pt", -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.structure.fitting.CHECKPOINT_EVERY", 2)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "whole-2.pt", 5)
    resumed = fit(tmp_path / "whole-2.pt", -1)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
