"""How far bfloat16 and float16 take each port's answer from float32's, with random weights: why precisions are as set.

Conventions: matrices and convolutions in the lower precision, sums and norms as autocast leaves them; figures that
docstrings and READMEs name are printed with ``pytest -rP --log-level=INFO tests/pipeline/test_precision.py``.
"""

import logging
import math
from collections.abc import Callable
from typing import cast

import pytest
import torch
from test_mucodec import noise
from tiny_mucodec import randomised
from torch import Tensor

from pipeline.codec.mucodec.estimator import Estimator, EstimatorShape
from pipeline.codec.mucodec.flow import solve
from pipeline.codec.mucodec.quantiser import Quantiser
from pipeline.conditioning.clamp3.network import Clamp3, audio_config, text_config
from pipeline.encoders.muq.network import SAMPLES_PER_STATE, MuQ, MuQShape
from pipeline.encoders.musicfm import MusicFM
from pipeline.quality.songeval.network import LAYER, SongEval
from pipeline.separation.bsrnn.network import BandSplitRNN
from pipeline.separation.bsrnn.network import Shape as BandShape
from pipeline.structure.songformer.backend import LAYER as HEARD
from pipeline.structure.songformer.network import Shape, SongFormer
from pipeline.structure.songformer.segments import DATA_SET, OUTPUTS

logger = logging.getLogger(__name__)
WIDTH = 128  # of the small MuQ
LOWER = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def lowered(precision: str, work: Callable[[], Tensor]) -> Tensor:
    with torch.inference_mode(), torch.autocast("cpu", dtype=LOWER[precision]):
        return work().float()


def decibels(other: Tensor, true: Tensor) -> float:
    """Level of the difference against that of the answer."""
    return 10 * math.log10(float((other - true).square().mean() / true.square().mean()))


@pytest.fixture(scope="module")
def muq() -> MuQ:
    return cast(MuQ, randomised(MuQ(MuQShape(width=WIDTH, layers=7, heads=2, inner=512))))


@pytest.fixture(scope="module")
def sound() -> Tensor:
    """``[1, samples]`` at 24 kHz, 10 s."""
    return torch.from_numpy(noise(250 * SAMPLES_PER_STATE).samples)


def test_codes_need_float32(muq: MuQ, sound: Tensor) -> None:
    """16,384 centres lie close: an error far below hearing picks another one for many frames."""
    generator = torch.Generator().manual_seed(0)
    quantiser = cast(Quantiser, randomised(Quantiser(WIDTH, 16_384, 32)))
    states = muq(sound, last=LAYER)[LAYER]
    points = quantiser.points(states)[0]
    spread = torch.randn(16_384, 32, generator=generator) * points.std(0)
    quantiser.codebook.weight.copy_(points[torch.arange(16_384) % len(points)] + 0.3 * spread)
    codes = quantiser.encode(states)
    assert len(codes.unique()) > 240  # of 250 frames
    heard = lowered("bfloat16", lambda: muq(sound, last=LAYER)[LAYER])
    equal = float((quantiser.encode(heard) == codes).float().mean())
    logger.info("MuCodec, bfloat16: states %.1f dB, %.3f of codes equal", decibels(heard, states), equal)
    assert decibels(heard, states) < -30
    assert equal < 0.95


@pytest.mark.parametrize(("precision", "level"), [("bfloat16", -30.0), ("float16", -45.0)])
def test_mucodecs_decoder_bears_float16_better_than_bfloat16(precision: str, level: float) -> None:
    """20 steps with guidance 1.5, three layers."""
    network = cast(Estimator, randomised(Estimator(EstimatorShape(heads=1, layers=3))))
    generator = torch.Generator().manual_seed(0)
    noise, condition = torch.randn(2, 1, 32, 16, 16, generator=generator)
    context = torch.zeros_like(noise)
    with torch.inference_mode():
        true = solve(network, noise, context, 0, condition)
    apart = decibels(lowered(precision, lambda: solve(network, noise, context, 0, condition)), true)
    logger.info("MuCodec's decoder, %s: latents %.1f dB", precision, apart)
    assert apart < level


def test_songevals_scores_move_less_than_a_gate_tells(muq: MuQ, sound: Tensor) -> None:
    head = cast(SongEval, randomised(SongEval(WIDTH, 512)))
    true = head(muq(sound, last=LAYER)[LAYER])[0]
    apart = (lowered("bfloat16", lambda: head(muq(sound, last=LAYER)[LAYER])[0]) - true).abs().max()
    logger.info("SongEval, bfloat16: scores %.4f apart", float(apart))
    assert float(apart) < 0.05


def test_songformer_names_a_few_frames_otherwise() -> None:
    shape = Shape(streams=256, fused=128, down=96, width=64, layers=4, heads=4, head=16)
    network = cast(SongFormer, randomised(SongFormer(shape)))
    states, data_set = torch.randn(1, 900, 256, generator=torch.Generator().manual_seed(0)), torch.tensor([DATA_SET])
    with torch.inference_mode():
        boundary, function = network(states, data_set)
    bounds = lowered("bfloat16", lambda: network(states, data_set)[0])
    labels = lowered("bfloat16", lambda: network(states, data_set)[1])
    places = list(OUTPUTS.values())
    equal = float((function[..., places].argmax(-1) == labels[..., places].argmax(-1)).float().mean())
    apart = decibels(bounds, boundary)
    logger.info("SongFormer, bfloat16: boundaries %.1f dB, %.3f of frames of the same label", apart, equal)
    assert apart < -25
    assert 0.85 < equal < 1


def test_musicfms_states_need_float32() -> None:
    """To the layer that SongFormer takes: told against how far they change over 10 s, which is what it goes by."""
    network = cast(MuQ, randomised(MuQ(MuQShape(width=64, layers=HEARD, heads=1, inner=256, channels=16))))
    musicfm, sound = MusicFM(network, 6.0, 18.0), torch.from_numpy(noise(250 * SAMPLES_PER_STATE).samples)
    with torch.inference_mode():
        true = musicfm(sound, HEARD)[HEARD]
    heard, mean = lowered("bfloat16", lambda: musicfm(sound, HEARD)[HEARD]), true.mean(1)
    whole, moved = decibels(heard, true), decibels(heard - mean, true - mean)
    logger.info("MusicFM, bfloat16: states %.1f dB, %.1f dB of how far they change", whole, moved)
    assert whole < -30
    assert -20 < moved < -5


def test_clamp3s_vectors_keep_their_direction() -> None:
    small = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 192}
    network = cast(Clamp3, randomised(Clamp3(text_config(**small, vocab_size=50), audio_config(**small))))
    windows = torch.randn(30, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        true = network.audio(windows)
    likeness = float(torch.cosine_similarity(lowered("bfloat16", lambda: network.audio(windows)), true, dim=0))
    logger.info("CLaMP3, bfloat16: cosine %.6f", likeness)
    assert likeness > 0.999


def test_bsrnns_masks_bear_bfloat16() -> None:
    network = cast(BandSplitRNN, randomised(BandSplitRNN(BandShape(width=16, hidden=16, layers=3, mask=32))))
    features = torch.randn(1, 1025, 40, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        true = network(features)
    apart = decibels(lowered("bfloat16", lambda: network(features)), true)
    logger.info("BSRNN, bfloat16: masks %.1f dB", apart)
    assert apart < -30
