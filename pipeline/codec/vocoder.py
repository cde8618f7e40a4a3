"""Log-mel -> audio: magnitudes by least squares, phases by fast Griffin-Lim (Perraudin et al. 2013), seeded.

Conventions: log-mels ``[M, 100]`` and samples as in `mel`; long songs are done in blocks that are cross-faded, so that
memory stays flat.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.codec.mel import HOP, N_FFT, linear_magnitude

ITERATIONS = 16  # 32 measured as no better (notes/codec.md 2.1)
MOMENTUM = 0.99  # Perraudin et al. 2013
SEED = 0  # of the first phases; ours
BLOCK = 12_000  # frames: two minutes, 0.3 GB
OVERLAP = 32  # frames of cross-fade


def synthesise(log_mels: Tensor, iterations: int = ITERATIONS, block: int = BLOCK) -> Tensor:
    """Samples ``[240 M]`` at 24 kHz; the same log-mel gives the same samples."""
    frames = log_mels.shape[0]
    generator = torch.Generator().manual_seed(SEED)
    output = torch.zeros(frames * HOP)
    for start in range(0, max(frames - OVERLAP, 1), block - OVERLAP):
        end = min(start + block, frames)
        phases = torch.rand((end - start + 2, N_FFT // 2 + 1), generator=generator)
        part = _griffin_lim(linear_magnitude(log_mels[start:end]), phases, iterations)
        _cross_fade(output[start * HOP : end * HOP], part, first=start == 0)
    return output


def _griffin_lim(magnitude: Tensor, phases: Tensor, iterations: int) -> Tensor:
    """One more frame on either side lets `torch.istft`, with frames centred on multiples of the hop, serve ours."""
    window = torch.hann_window(N_FFT)
    target = F.pad(magnitude.T[None], (1, 1), mode="replicate")[0]
    length = HOP * (target.shape[1] - 1)
    turn = torch.polar(torch.ones_like(target), 2 * torch.pi * phases.T)
    before = torch.zeros_like(turn)
    for _ in range(iterations):
        samples = torch.istft(target * turn, N_FFT, HOP, window=window, length=length)
        now = torch.stft(samples, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True)
        turn = now - before * (MOMENTUM / (1 + MOMENTUM))
        turn = turn / turn.abs().clamp_min(1e-16)
        before = now
    samples = torch.istft(target * turn, N_FFT, HOP, window=window, length=length)
    return samples[HOP // 2 : HOP // 2 + HOP * magnitude.shape[0]]


def _cross_fade(output: Tensor, block: Tensor, first: bool) -> None:
    """Write a block into its place; its head is mixed with the block before, at equal power: phases are unrelated."""
    if first:
        output[:] = block
        return
    head = OVERLAP * HOP
    turn = torch.linspace(0, torch.pi / 2, head)
    output[:head] = output[:head] * turn.cos() + block[:head] * turn.sin()
    output[head:] = block[head:]
