"""How far the precision in which a published model runs takes its answer from float32's: MERT, Qwen2-Audio, Qwen3-ASR
and Whisper, transformers' own classes with random weights.

Conventions: as in `test_precision`. Weights are rounded to the precision in which they are published first: what is
measured is the arithmetic. Differences are told against how far the answers to several sounds, or at several tokens,
lie from one another: what all of them share tells nothing.
"""

import logging
import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tiny_published
import torch
from test_mucodec import noise
from tiny_mucodec import randomised
from torch import Tensor, nn

from pipeline.annotation.lyrics import Recogniser
from pipeline.annotation.qwen2_audio import QwenAnnotator
from pipeline.annotation.stage import AnnotationConfig, LyricsConfig
from pipeline.conditioning.clamp3.network import Clamp3, audio_config, text_config
from pipeline.encoders.mert import network as mert

logger = logging.getLogger(__name__)
SIZES = {"d_model": 128, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 512}
WORDS = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 2}
SAID = 200  # tokens behind the sound, at each of which the likeliest next one is looked at


def apart(other: Tensor, true: Tensor) -> float:
    """Level, dB, of the difference of answers ``[N, ...]`` against that of the answers about their mean."""
    own = true - true.mean(0)
    return 10 * math.log10(float((other - true).square().mean() / own.square().mean()))


def test_reference_vectors_need_float32() -> None:
    """MERT at its true depth, a sixth as wide, then CLaMP3's audio tower: likeness alone would say that bfloat16 does,
    but all vectors of a random network are alike, and what little tells sounds apart drowns.
    """
    ears = mert.build(
        mert.config(
            hidden_size=128, num_attention_heads=2, intermediate_size=512, conv_dim=(32,) * 7,
            num_conv_pos_embedding_groups=4,
        )
    )  # fmt: skip
    randomised(ears)
    tower = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512}
    towers = Clamp3(text_config(**tower, vocab_size=50), audio_config(**tower))
    randomised(towers)
    sounds = [torch.from_numpy(noise(6 * mert.SAMPLE_RATE, seed=seed).samples[0]) for seed in range(4)]
    true = vectors(ears, towers, sounds)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = [told.float() for told in vectors(ears, towers, sounds)]
    levels = [apart(ours, theirs) for ours, theirs in zip(rounded, true, strict=True)]
    likeness = [float(torch.cosine_similarity(a, b).min()) for a, b in zip(rounded, true, strict=True)]
    logger.info("MERT, bfloat16: cosine %.6f, %.1f dB of what tells sounds apart", likeness[0], levels[0])
    logger.info("CLaMP3 on it, bfloat16: cosine %.6f, %.1f dB of what tells sounds apart", likeness[1], levels[1])
    assert min(likeness) > 0.999
    assert -30 < levels[0] < -15
    assert levels[1] > -10


def vectors(ears: Any, towers: Clamp3, sounds: list[Tensor]) -> list[Tensor]:
    """MERT's windows ``[N, width]`` of all sounds, CLaMP3's vectors ``[sounds, width]``."""
    windows = [mert.window_vectors(ears, sound) for sound in sounds]
    with torch.inference_mode():
        return [torch.cat(windows), torch.stack([towers.audio(own) for own in windows])]


@pytest.fixture(autouse=True)
def larger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The stand-ins of `tiny_published`, of a size at which rounding adds up, in a store of their own."""
    monkeypatch.setattr(tiny_published, "EARS", tiny_published.EARS | SIZES)
    monkeypatch.setattr(tiny_published, "DECODER", tiny_published.DECODER | WORDS)
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path / "store"))


def qwen2_audio() -> tuple[nn.Module, Mapping[str, Tensor]]:
    config = AnnotationConfig.model_validate({"backend": "qwen2_audio", "caption": {"precision": "float32"}})
    port = QwenAnnotator(config)
    sound = noise(480_000, seed=1).samples[0]
    asked = port._processor(text=[port._prompt], audio=[sound], sampling_rate=16_000, return_tensors="pt")
    return port._network, followed(asked)


def qwen3_asr() -> tuple[nn.Module, Mapping[str, Tensor]]:
    port = Recogniser(LyricsConfig(backend="qwen3_asr", precision="float32"), "cpu")
    return port._network, followed(port._asked([noise(480_000, seed=1).samples[0]]))


def whisper() -> tuple[nn.Module, Mapping[str, Tensor]]:
    port = Recogniser(LyricsConfig(backend="whisper", precision="float32"), "cpu")
    asked = port._asked([noise(480_000, seed=1).samples[0]])
    return port._network, {**asked, "decoder_input_ids": tokens()}


def test_whisper_runs_in_the_precision_of_its_weights(tmp_path: Path) -> None:
    tiny_published.install_tiny("whisper", tmp_path / "made")
    port = Recogniser(LyricsConfig(backend="whisper", precision="float16", max_tokens=3), "cpu")
    assert {tensor.dtype for tensor in port._network.parameters()} == {torch.float16}
    assert isinstance(port(noise(96_000)), str)


def tokens() -> Tensor:
    return torch.randint(0, 200, (1, SAID), generator=torch.Generator().manual_seed(2))


def followed(asked: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The question with an answer behind it."""
    ids = torch.cat([asked["input_ids"], tokens()], 1)
    return {**asked, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize(
    ("name", "made", "published", "precision", "level", "equal"),
    [
        ("qwen2-audio", qwen2_audio, torch.bfloat16, torch.bfloat16, -30.0, 0.9),
        ("qwen3-asr", qwen3_asr, torch.bfloat16, torch.bfloat16, -30.0, 0.9),
        ("whisper", whisper, torch.float16, torch.bfloat16, -30.0, 0.9),
        ("whisper", whisper, torch.float16, torch.float16, -45.0, 0.98),
    ],
)
def test_what_is_said_next_is_what_float32_would_say(
    name: str,
    made: Callable[[], tuple[nn.Module, Mapping[str, Tensor]]],
    published: torch.dtype,
    precision: torch.dtype,
    level: float,
    equal: float,
    tmp_path: Path,
) -> None:
    tiny_published.install_tiny(name, tmp_path / "made")
    network, asked = made()
    randomised(network).get_input_embeddings().weight.mul_(8)  # else what was heard drowns what was said
    network.to(published).float()
    lower = deepcopy(network).to(precision)
    with torch.inference_mode():
        true = network(**asked).logits[0, -SAID:]
        rounded = asked | {"input_features": asked["input_features"].to(precision)}
        told = lower(**rounded).logits[0, -SAID:].float()
    same = float((true.argmax(1) == told.argmax(1)).float().mean())
    logger.info("%s, %s: logits %.1f dB, %.3f of tokens equal", name, precision, apart(told, true), same)
    assert len(true.argmax(1).unique()) > 20
    assert apart(told, true) < level
    assert same > equal
