"""musicnn in torch: shapes, determinism, agreement with a direct reading of the published graph, sane tags."""

import sys

import numpy as np
import pytest

from pipeline.encoders import musicnn
from pipeline.encoders.musicnn import SAMPLE_RATE, WINDOW_SECONDS, MusiCNN
from pipeline.encoders.tf_checkpoint import load
from pipeline.errors import BackendUnavailable
from pipeline.types import Audio


@pytest.fixture(scope="module")
def tagger() -> MusiCNN:
    return MusiCNN()


def noise(seconds: float, sample_rate: int = SAMPLE_RATE, channels: int = 1, seed: int = 0) -> Audio:
    rng = np.random.default_rng(seed)
    samples = 0.1 * rng.standard_normal((channels, int(seconds * sample_rate)))
    return Audio(samples.astype(np.float32), sample_rate)


def plucks(seconds: float) -> Audio:
    """A decaying A major chord once a second."""
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    chord = sum(np.sin(2 * np.pi * f * t) / (i + 1) for i, f in enumerate((110, 220, 277.2, 329.6, 440, 659.3)))
    return Audio((0.2 * chord * np.exp(-3 * (t % 1.0))).astype(np.float32)[None], SAMPLE_RATE)


def test_the_package_itself_is_never_imported(tagger):
    assert "tensorflow" not in sys.modules
    assert "musicnn" not in sys.modules


def test_both_models_have_fifty_labels_and_their_own_weights(tagger):
    other = MusiCNN("MSD_musicnn")
    assert (len(tagger.labels), tagger.labels[0], tagger.labels[-1]) == (50, "guitar", "choral")
    assert (len(other.labels), other.labels[0], other.labels[-1]) == (50, "rock", "happy")
    assert tagger.weights_sha256 != other.weights_sha256


@pytest.mark.parametrize(("seconds", "rows"), [(0.1, 1), (2.0, 1), (WINDOW_SECONDS, 1), (6.0, 2), (10.0, 3)])
def test_one_row_per_window_and_at_least_one(tagger, seconds, rows):
    output = tagger(noise(seconds))
    assert (output.tags.shape, output.embedding.shape) == ((rows, 50), (rows, 200))
    assert output.tags.dtype == output.embedding.dtype == np.float32
    assert ((output.tags >= 0) & (output.tags <= 1)).all()
    assert np.isfinite(output.embedding).all()


def test_the_same_audio_gives_the_same_bytes(tagger):
    first, second = tagger(noise(7.0)), tagger(noise(7.0))
    assert first.tags.tobytes() == second.tags.tobytes()
    assert first.embedding.tobytes() == second.embedding.tobytes()


def test_channels_are_averaged_and_the_rate_does_not_matter(tagger):
    stereo = noise(3.5, 48_000, channels=2)
    mono = stereo.mono()
    np.testing.assert_array_equal(tagger(stereo).tags, tagger(mono).tags)


def test_silence_has_tags_too(tagger):
    assert np.isfinite(tagger(Audio(np.zeros((1, 4 * SAMPLE_RATE), np.float32), SAMPLE_RATE)).tags).all()


def test_a_window_does_not_depend_on_later_ones(tagger):
    long = tagger(noise(20.0))
    short = tagger(Audio(noise(20.0).samples[:, : 13 * SAMPLE_RATE], SAMPLE_RATE))
    np.testing.assert_allclose(long.embedding[:4], short.embedding[:4], atol=1e-4)


def test_plucked_chords_are_heard_as_a_guitar_or_a_harp_and_not_as_techno(tagger):
    heard = dict(zip(tagger.labels, tagger(plucks(9.0)).tags.mean(axis=0), strict=True))
    plucked = max(heard[name] for name in ("guitar", "harp", "harpsichord", "sitar", "piano"))
    assert plucked > 3 * heard["techno"]
    assert plucked > 3 * heard["drums"]


def test_the_network_is_the_published_graph(tagger):
    """The forward pass again, written straight from musicnn's models.py in numpy with explicit loops over time."""
    weights = load(tagger._folder)
    mel = np.random.default_rng(0).uniform(0, 3, (musicnn.WINDOW_FRAMES, musicnn.MELS))
    expected_tags, expected_penultimate = reference(weights, mel)
    import torch

    tags, penultimate = tagger._forward(torch.tensor(mel, dtype=torch.float32)[None])
    np.testing.assert_allclose(penultimate[0].numpy(), expected_penultimate, atol=2e-3)
    np.testing.assert_allclose(tags[0].numpy(), expected_tags, atol=1e-4)


def reference(weights, mel):
    """Tags ``[50]``, penultimate ``[200]`` of log-mel ``[187, 96]``, float64."""

    def key(base, i):
        return base if i == 0 else f"{base}_{i}"

    def norm(x, i):
        gamma, beta, mean, variance = (
            weights[f"{key('batch_normalization', i)}/{n}"].astype(np.float64)
            for n in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta

    def convolve(x, i, before, after):
        """x ``[T, F]`` padded in time, valid in frequency -> ``[T', F', C]`` after ReLU and batch norm."""
        kernel = weights[f"{key('conv2d', i)}/kernel"].astype(np.float64)[:, :, 0]  # [time, frequency, C]
        x = np.pad(x, ((before, after), (0, 0)))
        views = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2])  # [T', F', time, frequency]
        y = np.einsum("abtf,tfc->abc", views, kernel, optimize=True)
        return norm(np.maximum(y + weights[f"{key('conv2d', i)}/bias"], 0), i + 1)

    x = norm(mel[..., None], 0)[..., 0]
    front = [convolve(x, i, 3, 3).max(axis=1) for i in (0, 1)]
    front += [convolve(x, i, (k - 1) // 2, k // 2).max(axis=1) for i, k in ((2, 128), (3, 64), (4, 32))]
    features = [np.concatenate(front, axis=1)]
    for i in (5, 6, 7):
        y = convolve(features[-1], i, 3, 3)[:, 0]
        features.append(y if i == 5 else y + features[-1])
    stacked = np.concatenate(features, axis=1)
    pooled = norm(np.stack([stacked.max(axis=0), stacked.mean(axis=0)], axis=1).reshape(-1), 9)

    def dense(x, i):
        return x @ weights[f"{key('dense', i)}/kernel"].astype(np.float64) + weights[f"{key('dense', i)}/bias"]

    penultimate = norm(np.maximum(dense(pooled, 0), 0), 10)
    return 1 / (1 + np.exp(-dense(penultimate, 1))), penultimate


def test_labels_are_parsed_and_never_run(tmp_path):
    path = tmp_path / "configuration.py"
    path.write_text("raise SystemExit\nMTT_LABELS = ['a', 'b']\n")
    assert musicnn._labels(path, "MTT_LABELS") == ("a", "b")
    with pytest.raises(BackendUnavailable, match="MSD_LABELS"):
        musicnn._labels(path, "MSD_LABELS")
