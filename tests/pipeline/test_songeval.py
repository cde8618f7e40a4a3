"""SongEval's port: published names and shapes, its head written out, its windows, its files and their faults."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_muq import published
from torch import Tensor

from pipeline.assets.needs import Needs
from pipeline.assets.pull import install
from pipeline.assets.store import VARIABLE, held
from pipeline.encoders.muq.network import MuQ, MuQShape
from pipeline.errors import BackendUnavailable, BadInput
from pipeline.quality.songeval import weights
from pipeline.quality.songeval.network import NAMES, SongEval
from pipeline.quality.songeval.rater import SongEvalRater, pieces
from pipeline.quality.stage import QualityConfig, SongEvalConfig, build, needs
from pipeline.types import Audio

GOLDEN = Path(__file__).parents[1] / "golden" / "published" / "songeval.json"
WIDTH, INNER, LAYERS = 16, 24, 4


def head(width: int = WIDTH) -> SongEval:
    torch.manual_seed(0)
    return SongEval(width, INNER, LAYERS).eval().requires_grad_(False)


def noise(samples: int, rate: int = 24_000, channels: int = 1, seed: int = 0) -> Audio:
    values = np.random.default_rng(seed).normal(0, 0.1, (channels, samples))
    return Audio(values.astype(np.float32), rate)


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        ours = {name: list(tensor.shape) for name, tensor in SongEval().state_dict().items()}
    assert ours == json.loads(GOLDEN.read_text())


def attention(state: dict[str, Tensor], layer: int, x: Tensor) -> Tensor:
    """Eight heads, every step written out."""
    weight, bias = state[f"attn.{layer}.in_proj_weight"], state[f"attn.{layer}.in_proj_bias"]
    query, key, value = (x @ weight.T + bias).split(WIDTH, dim=1)
    size, mixed = WIDTH // 8, []
    for n in range(8):
        part = slice(n * size, (n + 1) * size)
        likeness = torch.exp(query[:, part] @ key[:, part].T / math.sqrt(size))
        mixed.append(likeness / likeness.sum(1, keepdim=True) @ value[:, part])
    return torch.cat(mixed, 1) @ state[f"attn.{layer}.out_proj.weight"].T + state[f"attn.{layer}.out_proj.bias"]


def test_the_head_written_out() -> None:
    network, x = head().double(), torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(1)).double()
    state = network.state_dict()
    mapped = (x @ state["ffd.0.weight"].T + state["ffd.0.bias"]).clamp(min=0)
    mapped = mapped @ state["ffd.2.weight"].T + state["ffd.2.bias"]
    mixed = mapped
    for layer in range(LAYERS):
        mixed = attention(state, layer, mixed)
    summary = torch.cat([mixed.mean(0), mapped.max(0).values])
    total = state["fc.weight"] @ summary + state["fc.bias"]
    expected = (torch.exp(2 * total) - 1) / (torch.exp(2 * total) + 1) * 2 + 3
    torch.testing.assert_close(network(x[None])[0], expected, rtol=1e-12, atol=1e-12)


def test_scores_have_their_true_names_and_range() -> None:
    rating = SongEvalRater(tiny_muq(), head(128), QualityConfig(backend="songeval"))(noise(48_000, channels=2))
    assert tuple(rating.scores) == ("Coherence", "Musicality", "Memorability", "Clarity", "Naturalness") == NAMES
    assert all(1 < score < 5 for score in rating.scores.values())
    assert rating.mean == pytest.approx(sum(rating.scores.values()) / 5)


def tiny_muq() -> MuQ:
    """Seven layers: the sixth state must not be the last one, which is normed."""
    torch.manual_seed(0)
    return MuQ(MuQShape(width=128, layers=7, heads=2, inner=16, kernel=3, channels=4)).eval().requires_grad_(False)


def test_long_songs_are_heard_in_equal_parts() -> None:
    muq, scorer, audio = tiny_muq(), head(128), noise(60_001)
    config = QualityConfig(backend="songeval", songeval=SongEvalConfig(whole_seconds=1.0))
    whole = SongEvalRater(muq, scorer, QualityConfig(backend="songeval"))
    rated = SongEvalRater(muq, scorer, config)(audio)
    cuts = np.array_split(audio.samples, 3, axis=1)
    by_hand = [whole(Audio(np.ascontiguousarray(part), 24_000)).scores for part in cuts]
    for name, score in rated.scores.items():
        lengths = [part.shape[1] for part in cuts]
        assert score == pytest.approx(np.average([one[name] for one in by_hand], weights=lengths), rel=1e-5)
    assert rated.scores != whole(audio).scores


@pytest.mark.parametrize(
    ("seconds", "parts"),
    [(0.5, 1), (40.96, 1), (163.84, 1), (420 + 1 / 24_000, 1), (600.0, 1), (600 + 1 / 24_000, 2), (1800.0, 3)],
)
def test_windows_at_awkward_lengths(seconds: float, parts: int) -> None:
    samples = torch.empty(round(seconds * 24_000), device="meta")
    cut = pieces(samples, QualityConfig().songeval.whole_seconds)
    assert len(cut) == parts
    assert sum(map(len, cut)) == len(samples)
    assert max(map(len, cut)) - min(map(len, cut)) <= 1


def test_scores_are_those_that_a_song_has_alone() -> None:
    """Songs of 43 ms to 33 s, in parts where they are longer than 9 s: bit for bit alike, whoever comes with them."""
    config = QualityConfig(backend="songeval", songeval=SongEvalConfig(whole_seconds=9.0))
    rater = SongEvalRater(tiny_muq(), head(128), config)
    songs = [noise(samples, seed=number) for number, samples in enumerate((1025, 12_000, 240_001, 72_000, 800_000))]
    released = [rater(song) for song in songs]
    rater.size = Needs(batch_seconds=40.0).batch_size  # as on a GPU: four parts of up to 10 s
    alone = [rater(song) for song in songs]
    assert rater.batch(songs) == alone
    assert rater.batch(songs[::-1]) == alone[::-1]
    for one, other in zip(alone, released, strict=True):
        assert list(one.scores.values()) == pytest.approx(list(other.scores.values()), rel=1e-5)
    assert len({one.mean for one in alone}) == len(songs)


def test_too_short_is_told() -> None:
    rater = SongEvalRater(tiny_muq(), head(128), QualityConfig(backend="songeval"))
    with pytest.raises(BadInput, match="needs 1025 samples at 24000 Hz, got 1024"):
        rater.batch([noise(2000), noise(1024)])


def test_pulled_weights_are_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthetic files in the published formats, through the store and the stage's own way of building."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "store"))
    config = QualityConfig(backend="songeval")
    with pytest.raises(BackendUnavailable, match=r"muq.*backline assets pull muq --accept-licence"):
        build(config)
    save_file(published(tiny_muq()), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    install("muq", tmp_path, check=False)
    save_file(head(128).state_dict(), tmp_path / "model.safetensors")
    install("songeval", tmp_path, check=False)
    rater, audio = build(config), noise(30_000, rate=48_000)
    assert rater.backend == "songeval"
    assert len(rater.weights_sha256) == 64
    assert "non-commercial, accepted" in rater.licence
    assert rater(audio).scores == SongEvalRater(tiny_muq(), head(128), config)(audio).scores
    assert needs(config).assets == ("muq", "songeval")
    assert needs(QualityConfig()).assets == ()
    assert [needs(config).batch_size(seconds) for seconds in (30.0, 120.0, 121.0)] == [8, 2, 1]
    assert held("songeval").tensors("model.safetensors").exists()


def test_faults_of_a_file_are_one_sentence(tmp_path: Path) -> None:
    path, whole = tmp_path / "model.safetensors", head().state_dict()
    with pytest.raises(BackendUnavailable, match="is missing"):
        weights.load(path)
    save_file({name: tensor for name, tensor in whole.items() if name != "fc.bias"}, path)
    with pytest.raises(BackendUnavailable, match=r"1 missing: fc\.bias"):
        weights.load(path)
    save_file(whole | {"fc.bias": torch.zeros(6)}, path)
    with pytest.raises(BackendUnavailable, match=r"1 of another shape: fc\.bias \[6\] \(not \[5\]\)"):
        weights.load(path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(BackendUnavailable, match="has not the layout of SongEval's file"):
        weights.load(path)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(BackendUnavailable, match="can't be read as weights"):
        weights.load(path)
