"""From noise to latents: MuCodec's flow, followed in equal steps, with what is known already held to its own path.

Conventions: latents are ``[B, 32, H, 32]``, normalised; the first `known` frames of `context` are given, the rest of it
is zero. Guidance 1 follows the condition alone.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.codec.mucodec.estimator import Estimator

SIGMA = 1e-4  # noise that is left at the end; BASECFM

Flow = Callable[[Tensor, Tensor], Tensor]


def solve(
    estimator: Estimator | Flow,
    noise: Tensor,
    context: Tensor,
    known: int,
    condition: Tensor,
    guidance: float = 1.5,
    steps: int = 20,
) -> Tensor:
    """Euler's method from time 0 to 1, the given frames put back at the end."""
    times = torch.linspace(0, 1, steps + 1, device=noise.device)
    x, time, stride = noise, times[0], times[1] - times[0]
    for step in range(1, steps + 1):
        given = (1 - (1 - SIGMA) * time) * noise[:, :, :known] + time * context[:, :, :known]
        x = torch.cat([given, x[:, :, known:]], dim=2)
        x = x + stride * _slope(estimator, x, context, condition, time, guidance)
        time = time + stride
        if step < steps:
            stride = times[step + 1] - time
    return torch.cat([context[:, :, :known], x[:, :, known:]], dim=2)


def _slope(
    estimator: Estimator | Flow, x: Tensor, context: Tensor, condition: Tensor, time: Tensor, guidance: float
) -> Tensor:
    if guidance <= 1.0:
        return estimator(torch.cat([x, context, condition], 1), time.expand(len(x)))
    conditions = torch.cat([torch.zeros_like(condition), condition])
    both = torch.cat([torch.cat([x, x]), torch.cat([context, context]), conditions], 1)
    free, led = estimator(both, time.expand(len(both))).chunk(2)
    return free + guidance * (led - free)
