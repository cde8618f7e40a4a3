"""MusicFM: MuQ's network under the published wrapping, with normalisation of its own."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.assets.known import ASSETS
from pipeline.encoders import musicfm
from pipeline.encoders.muq.mel import log_mel
from pipeline.encoders.muq.network import MuQ, MuQShape
from pipeline.encoders.muq.weights import UNUSED, shape_of
from pipeline.errors import BackendUnavailable
from pipeline.published import below

GOLDEN = Path(__file__).parents[1] / "golden" / "published" / "musicfm.json"  # of minzwon/musicfm's own class, b83ebed
TINY = MuQShape(width=64, layers=2, heads=1, inner=32, kernel=5, channels=4)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, MuQ]:
    torch.manual_seed(0)
    network = MuQ(TINY).eval()
    beside = {
        "quantizer_melspec_2048_0.random_projection": torch.ones(2),
        "preprocessor_melspec_2048.mel_stft.spectrogram.window": torch.ones(2),
        "conformer.pos_conv_embed.conv.bias": torch.ones(2),
        "linear.weight": torch.ones(2, 2),
        "cls_token": torch.ones(2),
    }
    state = {f"model.{name}": tensor for name, tensor in (network.state_dict() | beside).items()}
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "pretrained_msd.pt")
    (tmp_path / "msd_stats.json").write_text(json.dumps({"melspec_2048_mean": 2.0, "melspec_2048_std": 5.0}))
    return tmp_path / "pretrained_msd.pt", tmp_path / "msd_stats.json", network


def test_names_and_shapes_are_the_published_ones() -> None:
    theirs: Any = below(json.loads(GOLDEN.read_text()), musicfm.PREFIX)
    training = {name for name in theirs if name.startswith((*UNUSED, musicfm.QUANTIZER))}
    with torch.device("meta"):
        told = shape_of({name: torch.empty(theirs[name]) for name in theirs.keys() - training}, GOLDEN)
        ours = {name: list(tensor.shape) for name, tensor in MuQ(told).state_dict().items()}
    assert told == MuQShape()
    assert ours == {name: shape for name, shape in theirs.items() if name not in training}
    assert len(training) == 1 + 2 + 2 + 2 + 3 + 1  # class token, front end, quantiser, head, positions
    assert len([name for name in ours if name.startswith("conformer.layers.")]) == musicfm.LAYERS * 34
    published_gb = sum(math.prod(shape) for shape in theirs.values()) * 4 / 1e9
    assert published_gb == pytest.approx(ASSETS["musicfm"].approximate_gb, abs=0.005)


def test_published_files_give_the_network_on_its_own_scale(files: tuple[Path, Path, MuQ]) -> None:
    weights, statistics, network = files
    audio = torch.randn(2, 24_000, generator=torch.Generator().manual_seed(1)) * 0.1
    with torch.inference_mode():
        answer = musicfm.load(weights, statistics)(audio, 1)
        expected = network.from_mel((log_mel(audio) - 2.0) / 5.0, 1)
    assert [state.shape for state in answer] == [(2, 25, 64)] * 2
    torch.testing.assert_close(answer[1], expected[1])


def test_what_does_not_fit_is_named(files: tuple[Path, Path, MuQ], tmp_path: Path) -> None:
    weights, statistics, network = files
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(BackendUnavailable, match=r"empty\.json has no mean and deviation of melspec_2048"):
        musicfm.load(weights, tmp_path / "empty.json")
    short = {f"model.{name}": tensor for name, tensor in network.state_dict().items() if "ffn2.output" not in name}
    torch.save({"state_dict": short}, tmp_path / "short.pt")
    with pytest.raises(BackendUnavailable, match=r"short\.pt does not fit MuQ: 4 missing: conformer\.layers\.0\.ffn2"):
        musicfm.load(tmp_path / "short.pt", statistics)
