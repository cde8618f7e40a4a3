"""The models that transformers itself carries, at true size on the meta device: their tensors fill the published files.

Names need no list of ours: a file that lacks a tensor, or has another one, is refused when it is read.
"""

from typing import Any

import pytest
import torch
from transformers import (
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen3ASRConfig,
    Qwen3ASRForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from pipeline.assets.store import asset

# Qwen2-Audio-7B-Instruct and whisper-large-v3-turbo as their config.json say; Qwen3-ASR 1.7B is transformers' default.
EARS = {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120}
WORDS = {
    "model_type": "qwen2", "vocab_size": 156_032, "hidden_size": 4096, "intermediate_size": 11_008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
}  # fmt: skip
TURBO = {"decoder_layers": 4, "decoder_attention_heads": 20, "decoder_ffn_dim": 5120, "vocab_size": 51_866}


@pytest.mark.parametrize(
    ("name", "network", "config", "parameters", "head"),
    [
        (
            "qwen2-audio", Qwen2AudioForConditionalGeneration,
            Qwen2AudioConfig(text_config=WORDS, audio_config={**EARS, "num_mel_bins": 128}), 8_397_094_912, 0,
        ),
        ("qwen3-asr", Qwen3ASRForConditionalGeneration, Qwen3ASRConfig(), 2_039_626_880, 151_936 * 2048),
        (
            "whisper", WhisperForConditionalGeneration, WhisperConfig(**EARS, **TURBO, num_mel_bins=128), 808_878_080, 0
        ),
    ],
)  # fmt: skip
def test_parameters_fill_the_published_files(name: str, network: Any, config: Any, parameters: int, head: int) -> None:
    """Of two bytes each; `head`: numbers of the output that a file holds once more, although they are the input's."""
    with torch.device("meta"):
        made = network(config)
    made.tie_weights()
    assert sum({id(tensor): tensor.numel() for tensor in made.parameters()}.values()) == parameters
    assert 2 * (parameters + head) / 1e9 == pytest.approx(asset(name).gigabytes, rel=0.005)
