"""CLaMP3's two towers that Backline needs: text (XLM-R base) and audio (a BERT on MERT vectors), 768 numbers each.

Conventions: a tower's answer for a sequence is the mean of its last hidden states over what is no padding, then a
linear layer; it is not brought to norm 1. Sequences longer than 128 go in segments, the last of which is the *last* 128
of the sequence; segments are weighted as the released code does. The symbolic tower is left out.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

WIDTH = 768
LENGTH = 128  # tokens or windows a segment; MAX_TEXT_LENGTH and MAX_AUDIO_LENGTH of code/config.py
PAD_TOKEN = 1  # XLM-R's
Tower = Callable[[Tensor, Tensor], Tensor]  # [B, T, ...] and its mask [B, T] -> [B, WIDTH]


def text_config(**changes: Any) -> XLMRobertaConfig:
    """FacebookAI/xlm-roberta-base, or some of its sizes changed for a test."""
    sizes: dict[str, Any] = {"vocab_size": 250_002, "max_position_embeddings": 514, "type_vocab_size": 1}
    return XLMRobertaConfig(**(sizes | {"layer_norm_eps": 1e-5, "pad_token_id": PAD_TOKEN} | changes))


def audio_config(**changes: Any) -> BertConfig:
    """code/config.py of the released code: 12 layers of 768, 12 heads, 128 positions."""
    return BertConfig(**({"vocab_size": 1, "max_position_embeddings": LENGTH} | changes))


class Clamp3(nn.Module):
    """Both towers, by the names of the published checkpoint."""

    def __init__(self, text: XLMRobertaConfig | None = None, audio: BertConfig | None = None, width: int = WIDTH):
        super().__init__()
        text, audio = text or text_config(), audio or audio_config()
        self.text_model, self.text_proj = XLMRobertaModel(text), nn.Linear(text.hidden_size, width)
        self.audio_model, self.audio_proj = BertModel(audio), nn.Linear(audio.hidden_size, width)
        self.train(False)

    def text(self, ids: Tensor) -> Tensor:
        """Token ids ``[T]``, both markers included -> ``[width]``"""
        return over_segments(ids, self.text_tower, PAD_TOKEN)

    def audio(self, vectors: Tensor) -> Tensor:
        """MERT vectors ``[N, 768]`` of a recording's windows -> ``[width]``."""
        return over_segments(marked(vectors), self.audio_tower, 0)

    def audio_of_one(self, vector: Tensor) -> Tensor:
        """One vector ``[768]`` as a sequence of length 1 without markers (LaDA-Band's released code) -> ``[width]``"""
        return self.audio_tower(vector[None, None], vector.new_ones(1, 1))[0]

    def text_tower(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.text_model(ids, attention_mask=mask).last_hidden_state
        return pooled(hidden, mask, self.text_proj)

    def audio_tower(self, vectors: Tensor, mask: Tensor) -> Tensor:
        hidden = self.audio_model(inputs_embeds=vectors, attention_mask=mask).last_hidden_state
        return pooled(hidden, mask, self.audio_proj)


def marked(vectors: Tensor) -> Tensor:
    """A zero vector marks either end of a recording's ``[N, width]``."""
    marker = vectors.new_zeros(1, vectors.shape[1])
    return torch.cat([marker, vectors, marker])


def pooled(hidden: Tensor, mask: Tensor, project: nn.Module) -> Tensor:
    """Hidden states ``[B, T, H]`` and mask ``[B, T]`` -> ``[B, width]``"""
    weights = mask[..., None].to(hidden.dtype)
    answer: Tensor = project((hidden * weights).sum(1) / weights.sum(1))
    return answer


def over_segments(sequence: Tensor, tower: Tower, pad: int) -> Tensor:
    """A tower's answer for a sequence ``[T, ...]`` of any length >= 1, segment by segment."""
    with torch.inference_mode():
        answers = [tower(part[None], mask[None]) for part, mask in segments(sequence, pad)]
    return merged(torch.cat(answers), len(sequence))


def segments(sequence: Tensor, pad: int) -> list[tuple[Tensor, Tensor]]:
    """A sequence ``[T, ...]`` in segments ``[LENGTH, ...]``, padded, each with its mask ``[LENGTH]``."""
    parts = list(torch.split(sequence, LENGTH))
    parts[-1] = sequence[-LENGTH:]
    return [_padded(part, pad) for part in parts]


def merged(answers: Tensor, length: int) -> Tensor:
    """Answers ``[segments, width]`` for a sequence of that length -> its own ``[width]``, their weighted mean.

    Weights are 128 for every whole segment and the remainder for the last, although that one holds the last 128.
    """
    weights = [LENGTH] * (length // LENGTH) + ([length % LENGTH] if length % LENGTH else [])
    shares = torch.tensor(weights, dtype=answers.dtype, device=answers.device)
    return (answers * shares[:, None]).sum(0) / shares.sum()


def _padded(segment: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    filler = segment.new_full((LENGTH - len(segment), *segment.shape[1:]), pad)
    mask = torch.arange(LENGTH, device=segment.device) < len(segment)
    return torch.cat([segment, filler]), mask.long()
