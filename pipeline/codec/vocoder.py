"""Log-mel -> audio: fast Griffin-Lim (Perraudin et al. 2013) from a seeded excitation, that holds to the mel and not to
one magnitude.

A mel leaves the 513 bins open. Classical Griffin-Lim picks one solution and asks for its phases; here each iteration
asks for the magnitude with the right mel that is nearest to what the last one could do, which halves the error
(weights/README.md).

Conventions: log-mels ``[M, 100]`` and samples as in `mel`; long songs are done in blocks that are cross-faded, so that
memory stays flat.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.codec.mel import HOP, N_FFT, absolute, heard_mel, linear_magnitude, mel_corrected
from pipeline.codec.pitch import Line, sung_line
from pipeline.codec.voice import excitation

ITERATIONS = 16  # 32 measured as 0.02 nats better, and half as fast (weights/README.md)
FIXED_ITERATIONS = 4  # the first ones, for whose phases the magnitude stands still; 10 is measured as no better
MOMENTUM = 0.99  # Perraudin et al. 2013
SUNG = 0.5  # strength of the line from which a frame starts as harmonics; ours
BLOCK = 12_000  # frames: two minutes, 0.3 GB
OVERLAP = 32  # frames of cross-fade
EDGE = 2  # frames repeated on either side of a block, since the overlap of windows is thin there
SIDE = (N_FFT - HOP) // 2  # samples that a frame reaches over its hop
PARTS = -(-N_FFT // HOP)  # hops that a frame reaches over


def synthesise(log_mels: Tensor, iterations: int = ITERATIONS, block: int = BLOCK, line: Line | None = None) -> Tensor:
    """Samples ``[240 M]`` at 24 kHz; the same log-mel gives the same samples. `line` is what is sung, found if not
    given."""
    frames = log_mels.shape[0]
    line = line or sung_line(log_mels)
    start_sound = F.pad(excitation(line), (EDGE * HOP + SIDE, EDGE * HOP + SIDE))
    sung = F.pad(torch.from_numpy(line.strength > SUNG), (EDGE, EDGE))
    output = torch.zeros(frames * HOP)
    for start in range(0, max(frames - OVERLAP, 1), block - OVERLAP):
        end = min(start + block, frames)
        sound = start_sound[start * HOP : (end + 2 * EDGE) * HOP + 2 * SIDE]
        part = _griffin_lim(heard_mel(log_mels[start:end]), sound, sung[start : end + 2 * EDGE], iterations)
        _cross_fade(output[start * HOP : end * HOP], part, first=start == 0)
    return output


def _griffin_lim(mel: Tensor, sound: Tensor, sung: Tensor, iterations: int) -> Tensor:
    mel = F.pad(mel.T[None], (EDGE, EDGE), mode="replicate")[0].T
    excited: Tensor = torch.fft.rfft(sound.unfold(0, N_FFT, HOP) * torch.hann_window(N_FFT))
    shape = absolute(excited)
    magnitude = linear_magnitude(mel, torch.where(sung[:, None], shape, 0.0))
    aim = _scaled(excited, magnitude / shape.clamp_min(1e-9))
    overlap = _overlap(len(mel))
    before = torch.zeros_like(aim)
    for iteration in range(iterations):
        now = _spectrum(_wave(aim, overlap))
        turn = torch.sub(now, before, alpha=MOMENTUM / (1 + MOMENTUM))
        before = now
        if iteration >= FIXED_ITERATIONS:
            magnitude = mel_corrected(absolute(now), mel)
        aim = _scaled(turn, magnitude / absolute(turn).clamp_min_(1e-9))
    start = SIDE + EDGE * HOP
    samples = _wave(aim, overlap)
    return samples[start : start + HOP * (len(mel) - 2 * EDGE)]


def _scaled(spectrum: Tensor, factor: Tensor) -> Tensor:
    """In place, by real numbers, which a product would turn into complex ones first."""
    torch.view_as_real(spectrum).mul_(factor[..., None])
    return spectrum


def _spectrum(samples: Tensor) -> Tensor:
    """``[240 (M + 4)]`` -> ``[M, 513]``."""
    frames = samples.unfold(0, N_FFT, HOP)[: len(samples) // HOP - PARTS + 1]
    spectrum: Tensor = torch.fft.rfft(frames * torch.hann_window(N_FFT))
    return spectrum


def _wave(spectrum: Tensor, overlap: Tensor) -> Tensor:
    """The least-squares inverse of `_spectrum`; twice as fast as `torch.istft`, whose overlap-add is a scatter."""
    return _added(torch.fft.irfft(spectrum, N_FFT) * torch.hann_window(N_FFT)) / overlap


def _overlap(frames: int) -> Tensor:
    return _added(torch.hann_window(N_FFT).square().expand(frames, N_FFT)).clamp_min(1e-8)


def _added(frames: Tensor) -> Tensor:
    """Frames ``[M, 1024]``, each 240 samples after the one before, summed: ``[240 (M + 4)]``."""
    hops = F.pad(frames, (0, PARTS * HOP - N_FFT)).view(len(frames), PARTS, HOP)
    total = torch.zeros(len(frames) + PARTS - 1, HOP)
    for part in range(PARTS):
        total[part : part + len(frames)] += hops[:, part]
    return total.view(-1)


def _cross_fade(output: Tensor, block: Tensor, first: bool) -> None:
    """Write a block into its place; its head is mixed with the block before, at equal power: phases are unrelated."""
    if first:
        output[:] = block
        return
    head = OVERLAP * HOP
    turn = torch.linspace(0, torch.pi / 2, head)
    output[:head] = output[:head] * turn.cos() + block[:head] * turn.sin()
    output[head:] = block[head:]
