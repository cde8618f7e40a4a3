"""How prefix and tracks become one sequence: side by side or one after the other, padded or packed. Pure.

Conventions: the accompaniment's rows come last; positions count from the prefix and, where songs are packed, anew in
each song. A padded row equals the song alone in every layout.

Shape suffixes: `B` songs, `T` frames, `P` prefix slots, `L` = P + T (`dual`) or P + 2 T (`prefix`), `D` width, `N`
valid positions of all songs.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from model.config import ModelConfig
from model.llama import EVERYWHERE, Reach


class Tracks(NamedTuple):
    """Embedded inputs of `B` songs; the tracks are D / 2 wide in `dual`, D in `prefix`."""

    prefix_BPD: Tensor
    vocal: Tensor
    accompaniment: Tensor


class Laid(NamedTuple):
    """What the backbone takes, and how its answer is read."""

    x: Tensor  # [B, L, D], or [1, N, D] packed
    reach: Reach
    position: Tensor  # [L], [B, L] or, packed, [N]
    first: int  # of the T rows that are the accompaniment's
    here_BL: Tensor | None  # bool, where the packed rows belong; None = not packed


def lay_out(config: ModelConfig, tracks: Tracks, valid_BT: Tensor | None) -> Laid:
    """One sequence a song; `valid_BT` is None where every frame is valid: then no mask reaches attention."""
    P, T = tracks.prefix_BPD.shape[1], tracks.vocal.shape[1]
    if config.layout == "dual":
        x_BLD = torch.cat((tracks.prefix_BPD, torch.cat((tracks.vocal, tracks.accompaniment), dim=-1)), dim=1)
        first, here_BL = P, _beside_prefix(valid_BT, P, 1)
        position = torch.arange(P + T, device=x_BLD.device)
    else:
        x_BLD = torch.cat((tracks.prefix_BPD, tracks.vocal, tracks.accompaniment), dim=1)
        first, here_BL = P + T, _beside_prefix(valid_BT, P, 2)
        position = two_blocks(config, P, T, valid_BT).to(x_BLD.device)
    if config.pack and here_BL is not None:
        causal = config.kind == "autoregressive"
        pieces = tuple(here_BL.sum(dim=1).tolist())
        rows_N = position.expand(here_BL.shape)[here_BL]
        return Laid(x_BLD[here_BL][None], Reach(causal=causal, pieces=pieces), rows_N, first, here_BL)
    return Laid(x_BLD, _reach(config, first, here_BL, x_BLD), position, first, None)


def accompaniment_rows(hidden: Tensor, laid: Laid) -> Tensor:
    """The backbone's answer `[B, T, D]` at the accompaniment's frames; zero at frames that were not computed."""
    if laid.here_BL is not None:
        empty_BLD = hidden.new_zeros((*laid.here_BL.shape, hidden.shape[-1]))
        hidden = empty_BLD.index_put((laid.here_BL,), hidden[0])
    return hidden[:, laid.first :]


def two_blocks(config: ModelConfig, prefix: int, frames: int, valid_BT: Tensor | None) -> Tensor:
    """Positions of `[prefix | vocal | accompaniment]`: `[L]`, or `[B, L]` where songs end before the block does."""
    block = torch.arange(frames)
    head = torch.arange(prefix + frames)
    if config.positions == "aligned":
        return torch.cat((head, prefix + block))
    if valid_BT is None:
        return torch.arange(prefix + 2 * frames)
    begin_B1 = prefix + valid_BT.sum(dim=1, keepdim=True)
    B = len(valid_BT)
    return torch.cat((head.to(begin_B1).expand(B, -1), begin_B1 + block.to(begin_B1)), dim=1)


def _beside_prefix(valid_BT: Tensor | None, prefix: int, blocks: int) -> Tensor | None:
    """Which of the L positions exist; None = all."""
    if valid_BT is None:
        return None
    return torch.cat((valid_BT.new_ones(len(valid_BT), prefix), *[valid_BT] * blocks), dim=1)


def _reach(config: ModelConfig, first: int, here_BL: Tensor | None, x_BLD: Tensor) -> Reach:
    """Padding comes last in `dual`: what is causal never sees it."""
    if config.kind != "autoregressive":
        return EVERYWHERE if here_BL is None else Reach(allow=here_BL[:, None, None, :])
    if config.layout == "dual":
        return Reach(causal=True)
    place = torch.arange(x_BLD.shape[1], device=x_BLD.device)
    allow = (place[None, :] < first) | (place[None, :] <= place[:, None])  # prefix and vocal: both ways
    return Reach(allow=allow if here_BL is None else allow & here_BL[:, None, None, :])
