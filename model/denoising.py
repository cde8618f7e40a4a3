"""Vocal codes and conditions in, accompaniment codes out: songs of any lengths, several in one forward pass.

Conventions: a song's codes depend on the network, its own vocal, conditions, settings, seed and kept codes, not on the
songs beside it (float32 sums may round differently in a batch of another shape). A forward pass holds `G` guidance
variants of each of `B` songs.

Shape suffixes: `G` variants, `B` songs, `T` frames of the longest, `M` masked frames of the batch in row-major order,
`P` prefix slots, `W` prefix vector, `D` width, `V` codes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.autoregressive import Decoding, draw_codes
from model.config import VOCAL_PAD, SamplerConfig
from model.network import MaskPredictor
from model.sampling import FREE, Predict, guide, plan_windows, sample
from model.schedule import generator
from pipeline.codec.codec import Codes
from pipeline.errors import BadInput

Progress = Callable[[int, int], None]  # denoising steps done, in all
Frames = NDArray[np.uint16] | NDArray[np.float32]
BLOCK = 256  # masked frames whose logits stand at once: 16 MB


@dataclass(frozen=True, slots=True)
class Conditions:
    """The prefix of one generation."""

    vectors_PW: Tensor  # float32
    missing_P: Tensor  # bool: the slot holds the null vector


@dataclass(frozen=True, slots=True)
class Song:
    """One row of a batch."""

    vocal: Frames  # codes [T]; latents [T, L] of a network of latents (`model.players`)
    conditions: Conditions
    seed: int
    fixed: NDArray[np.int64] | None = None  # [T] codes to keep, `FREE` elsewhere; None = all free


@torch.inference_mode()
def denoise_many(
    network: MaskPredictor, songs: Sequence[Song], config: SamplerConfig, progress: Progress | None = None
) -> list[NDArray[np.uint16]]:
    """Accompaniment codes ``[T]`` of each song; long ones `whole`, or in windows over fixed overlaps.

    An autoregressive network draws them from left to right, song by song. `BadInput` where kept codes are not as many
    as the vocal's.
    """
    if network.config.kind == "autoregressive":
        return [_from_left(network, song, config, progress) for song in songs]
    device = network.to_logits.weight.device
    codes = [_kept(song).to(device) for song in songs]
    plans = [_windows(len(kept), config) for kept in codes]
    rounds = max(map(len, plans))
    for index in range(rounds):
        here = [row for row, plan in enumerate(plans) if index < len(plan)]
        spans = [slice(*plans[row][index]) for row in here]
        fixed_BT, valid_BT = _stacked([codes[row][span] for row, span in zip(here, spans, strict=True)], FREE)
        vocals = [torch.from_numpy(songs[row].vocal.astype(np.int64)).to(device) for row in here]
        vocal_BT, _ = _stacked([vocal[span] for vocal, span in zip(vocals, spans, strict=True)], VOCAL_PAD)
        predict = predictor(network, vocal_BT, valid_BT, [songs[row].conditions for row in here], config)
        seeds = [_window_seed(songs[row].seed, index) for row in here]
        tell = _shifted(progress, index * config.steps, rounds * config.steps)
        drawn_BT = sample(predict, valid_BT, config, seeds, fixed_BT, tell)
        for place, (row, span) in enumerate(zip(here, spans, strict=True)):
            codes[row][span] = drawn_BT[place, : span.stop - span.start]
    return [one.cpu().numpy().astype(np.uint16) for one in codes]


def denoise(
    network: MaskPredictor,
    vocal: Codes,
    conditions: Conditions,
    config: SamplerConfig,
    seed: int,
    progress: Progress | None = None,
    fixed: NDArray[np.int64] | None = None,
) -> NDArray[np.uint16]:
    """`denoise_many` of one song."""
    return denoise_many(network, [Song(vocal, conditions, seed, fixed)], config, progress)[0]


def _from_left(
    network: MaskPredictor, song: Song, config: SamplerConfig, progress: Progress | None
) -> NDArray[np.uint16]:
    dropped_GP = guidance_rows(song.conditions.missing_P, config)
    G = len(dropped_GP)
    vocal_GT = torch.from_numpy(song.vocal.astype(np.int64)).to(dropped_GP.device).expand(G, -1)
    following = Decoding(network, vocal_GT, song.conditions.vectors_PW.expand(G, -1, -1), dropped_GP)
    return draw_codes(following, _kept(song), config, song.seed, progress).numpy().astype(np.uint16)


def _kept(song: Song) -> Tensor:
    if song.fixed is None:
        return torch.full((len(song.vocal),), FREE)
    if len(song.fixed) != len(song.vocal):
        raise BadInput(
            f"{len(song.fixed)} kept codes do not fit a vocal of {len(song.vocal)} codes: not the same voice?", "kept"
        )
    return torch.from_numpy(song.fixed).clone()


def _windows(frames: int, config: SamplerConfig) -> tuple[tuple[int, int], ...]:
    return (
        ((0, frames),) if config.long == "whole" else plan_windows(frames, config.window_tokens, config.overlap_tokens)
    )


def _window_seed(seed: int, index: int) -> int:
    return seed if index == 0 else generator(seed, "window", index).initial_seed()


def _stacked(rows: Sequence[Tensor], pad: int) -> tuple[Tensor, Tensor]:
    """Rows `[B, T]` of unequal lengths, padded, and where they are valid."""
    padded_BT = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=pad)
    length_B1 = torch.tensor([[len(row)] for row in rows], device=padded_BT.device)
    return padded_BT, torch.arange(padded_BT.shape[1], device=padded_BT.device) < length_B1


def predictor(
    network: MaskPredictor, vocal_BT: Tensor, valid_BT: Tensor, conditions: Sequence[Conditions], config: SamplerConfig
) -> Predict:
    """What the sampler asks for logits: one forward pass, its rows the guidance variants of every song."""
    prefix_BPW = torch.stack([one.vectors_PW for one in conditions])
    some_pad_BT = None if bool(valid_BT.all()) else valid_BT
    unguided = config.model_copy(update={"guidance_text": 1.0, "guidance_reference": 1.0})
    begin, end = config.guidance_interval

    def predict(accompaniment_BT: Tensor, masked_BT: Tensor, progress: float) -> Iterator[Tensor]:
        now = config if begin <= progress < end else unguided
        dropped_GBP = torch.stack([guidance_rows(one.missing_P, now) for one in conditions], dim=1)
        G = len(dropped_GBP)
        hidden_ND = network.hidden(
            vocal_BT.repeat(G, 1),
            accompaniment_BT.repeat(G, 1),
            prefix_BPW.repeat(G, 1, 1),
            None if some_pad_BT is None else some_pad_BT.repeat(G, 1),
            dropped_GBP.flatten(0, 1),
            masked_BT.repeat(G, 1),
        )
        # the head is linear: guiding its inputs guides its answers, for the price of one variant's
        hidden_MD = guided(hidden_ND.view(G, -1, hidden_ND.shape[1]), now).to(hidden_ND.dtype)
        return (network.logits(block_MD) for block_MD in torch.split(hidden_MD, BLOCK))

    return predict


def guided(each_GMX: Tensor, config: SamplerConfig) -> Tensor:
    """The variants of `guidance_rows` joined: their logits, or what a linear layer makes logits of."""
    text_MX = each_GMX[1] if len(each_GMX) == 3 else None
    return guide(each_GMX[0], text_MX, each_GMX[-1], config)


def guidance_rows(missing_P: Tensor, config: SamplerConfig) -> Tensor:
    """Which slots each variant of a song drops, bool ``[G, P]``: all given; the text alone; nothing.

    Only those that `sampling.guide` needs at these scales: 1 without guidance, 2 where both scales are equal.
    """
    everything = torch.ones_like(missing_P)
    text_slot = 0 if config.prefix_order == "text_reference" else 1
    text_alone = everything.clone()
    text_alone[text_slot] = missing_P[text_slot]
    if config.guidance_text != config.guidance_reference:
        return torch.stack([missing_P, text_alone, everything])
    return missing_P[None] if config.guidance_text == 1 else torch.stack([missing_P, everything])


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)
