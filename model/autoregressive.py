"""The ablation without diffusion: each code drawn from those before it, with the keys and values of the past kept.

Conventions: the network is a `MaskPredictor` of `kind: autoregressive`. `G` guidance variants of one song are the rows
of a batch and see the same codes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from model.config import MASK, SamplerConfig
from model.layout import two_blocks
from model.llama import Cache, Reach
from model.network import MaskPredictor, ahead
from model.sampling import FREE, Progress, draw, filter_logits, guide
from model.schedule import generator

Next = Callable[[int], Tensor]  # the code before (MASK at the start) -> logits_GV of the next frame


class Decoding:
    """A song's causal pass, frame by frame: `Next` of a network."""

    def __init__(self, network: MaskPredictor, vocal_GT: Tensor, prefix_GPW: Tensor, dropped_GP: Tensor | None) -> None:
        if network.config.kind != "autoregressive":
            raise ValueError(f"only model.kind autoregressive is drawn code by code, got {network.config.kind}")
        self.network, self.side_by_side = network, network.config.layout == "dual"
        before_GPD = network.prefix_rows(prefix_GPW, dropped_GP)
        self.vocal = network.voc_embed(ahead(vocal_GT, network.config.lookahead))
        G, T = vocal_GT.shape
        P = before_GPD.shape[1]
        if not self.side_by_side:
            before_GPD = torch.cat((before_GPD, self.vocal), dim=1)
        first = before_GPD.shape[1]
        self.position_L = torch.arange(P + T) if self.side_by_side else two_blocks(network.config, P, T, None)
        self.position_L = self.position_L.to(vocal_GT.device)
        self.caches = tuple(Cache(len(self.position_L)) for _ in network.lm.layers)
        self.rows, self.frame, self.first = G, 0, first
        reach = Reach(causal=self.side_by_side, caches=self.caches)  # a vocal before the accompaniment: both ways
        network.lm(before_GPD, reach, self.position_L[:first])

    def __call__(self, before: int) -> Tensor:
        """Logits `[G, V]` of the next frame."""
        code_G1 = torch.full((self.rows, 1), before, device=self.vocal.device)
        x_G1D = self.network.acc_embed(code_G1)
        if self.side_by_side:
            x_G1D = torch.cat((self.vocal[:, self.frame : self.frame + 1], x_G1D), dim=-1)
        place = self.first + self.frame
        hidden_G1D = self.network.lm(x_G1D, Reach(caches=self.caches), self.position_L[place : place + 1])
        self.frame += 1
        return self.network.logits(hidden_G1D[:, 0])


def draw_codes(
    following: Next, fixed_T: Tensor, config: SamplerConfig, seed: int, progress: Progress | None = None
) -> Tensor:
    """Codes int64 `[T]`, from left to right by the sampler's filter and guidance; `fixed_T` holds codes to keep and
    `FREE`. What is kept is heard by what comes after it alone."""
    frames = len(fixed_T)
    uniform_T = torch.rand(frames, generator=generator(seed, "sampler"))
    codes_T = torch.empty_like(fixed_T)
    code = MASK
    for frame in range(frames):
        logits_GV = following(code)
        code = int(fixed_T[frame])
        if code == FREE:
            text_1V = logits_GV[1:2] if len(logits_GV) == 3 else None
            guided_1V = guide(logits_GV[:1], text_1V, logits_GV[-1:], config)
            uniform_1 = uniform_T[frame : frame + 1].to(guided_1V.device)
            code = int(draw(filter_logits(guided_1V, config), uniform_1, config)[0])
        codes_T[frame] = code
        if progress is not None:
            progress(frame + 1, frames)
    return codes_T
