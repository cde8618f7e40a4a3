"""The fixed half of the embedded codec: a feature that keeps pitch, its principal components, 16384 k-means centres.

Conventions: `N` codes (groups of four mel frames), `D` components; a feature row is ``[sharpened log-mel * weight |
amplitude * mel^0.4 | tone * weight]``, 1040 wide, because the logarithm alone loses the tune and the root alone loses
onsets; sharpening raises what stands out of its neighbourhood, hence harmonics above the timbre
that carries them, and the tone says the same of soft frames as of loud ones (weights/README.md); points are its leading
components, stretched.
"""

from dataclasses import dataclass, replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.codec.mel import BANDS, FRAMES_PER_CODE
from pipeline.codec.pitch import TONE_BANDS, tone

COMPONENTS = 128  # against 64, 0.015 more in tune (weights/README.md)
LOW_BANDS, LOW_WEIGHT, HIGH_WEIGHT = 45, 1.4, 0.7  # the bands that carry pitch count more; same
SHARP_BANDS, SHARPNESS = 60, 2.0  # bands below 3 kHz, and how much; weights/README.md
NEIGHBOURHOOD = (1, 3, 6, 7, 6, 3, 1)  # weights of seven bands; ours
TONE_WEIGHT = 6.0  # of `pitch.tone`, 1 % of the variance; measured from 0 to 25 (weights/README.md)
STRETCH = 1.06  # of points away from the mean: unseen audio else falls on central codes (weights/README.md)
UNSEEN_STRETCH = 1.04  # the same once more where a file of weights is used: a decoder's own audio is nearer; same
ROOT = 0.4  # exponent of the amplitude half; same
ROWS = 128  # points per distance block: a table of 8 MB
GROUPS = 128  # of centres, by which training narrows its search: 8 x as fast; ours
CANDIDATES = 2048  # centres that a point is compared with at least; ours


@dataclass(frozen=True, slots=True)
class Codebook:
    """Everything that turns log-mels into codes."""

    amplitude: float  # scale of the root half that gives both halves the same variance
    mean: Tensor  # [1040]
    components: Tensor  # [1040, D]
    centres: Tensor  # [16384, D]
    sharpness: float = SHARPNESS

    def to(self, device: str) -> "Codebook":
        """A copy there."""
        return replace(
            self, mean=self.mean.to(device), components=self.components.to(device), centres=self.centres.to(device)
        )

    def points(self, log_mels: Tensor) -> Tensor:
        """Log-mel ``[4 N, 100]`` -> points ``[N, D]``: the continuous latents before quantisation."""
        return (features(log_mels, self.amplitude, self.sharpness) - self.mean) @ self.components

    def codes(self, log_mels: Tensor) -> Tensor:
        """Log-mel ``[4 N, 100]`` -> codes ``[N]`` int64."""
        return nearest(self.points(log_mels), self.centres)[0]


def features(log_mels: Tensor, amplitude: float, sharpness: float = SHARPNESS) -> Tensor:
    """``[4 N, 100]`` -> ``[N, 1040]``."""
    width = FRAMES_PER_CODE * BANDS
    rows = log_mels.float()
    logarithm = (rows @ _sharpened(sharpness).to(rows.device)).reshape(-1, width)
    root = (amplitude * (ROOT * rows).exp()).reshape(-1, width)
    return torch.cat([logarithm, root, TONE_WEIGHT * tone(rows).reshape(-1, FRAMES_PER_CODE * TONE_BANDS)], dim=1)


def fine_structure() -> Tensor:
    """The map ``[100, 100]`` from log-mels (rows) to what stands out of the neighbourhood."""
    weights = torch.tensor(NEIGHBOURHOOD, dtype=torch.float32)
    identity = torch.eye(BANDS)
    side = len(NEIGHBOURHOOD) // 2
    around = F.pad(identity[:, None], (side, side), mode="replicate")
    smooth = F.conv1d(around, (weights / weights.sum())[None, None])[:, 0]
    return identity - smooth


@cache
def _sharpened(sharpness: float) -> Tensor:
    """The map ``[100, 100]`` from log-mels (rows) to the first half of the feature."""
    sharp = sharpness * (torch.arange(BANDS) < SHARP_BANDS)
    weight = torch.full((BANDS,), HIGH_WEIGHT)
    weight[:LOW_BANDS] = LOW_WEIGHT
    return (torch.eye(BANDS) + fine_structure() * sharp) * weight


def nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Index ``[N]`` of the Euclidean nearest centre and the squared distance ``[N]``; of equal ones the first."""
    # the last row takes half the squared length off, with a 1 in every point: one product, nothing added after it
    targets = torch.cat([centres, -(centres * centres).sum(dim=1, keepdim=True) / 2], dim=1).T.contiguous()
    inputs = F.pad(points, (0, 1), value=1.0)
    index = torch.empty(len(points), dtype=torch.int64, device=points.device)
    error = torch.empty(len(points), device=points.device)
    table = torch.empty((ROWS, len(centres)), device=points.device)
    for start in range(0, len(points), ROWS):
        block = points[start : start + ROWS]
        scores = torch.mm(inputs[start : start + ROWS], targets, out=table[: len(block)])
        best = _largest(scores)
        index[start : start + ROWS] = best
        gain = scores.gather(1, best[:, None])[:, 0]
        error[start : start + ROWS] = (block * block).sum(dim=1) - 2 * gain
    return index, error


def _largest(scores: Tensor) -> Tensor:
    if scores.device.type == "cpu":
        return torch.from_numpy(scores.numpy().argmax(axis=1))  # numpy's argmax is 2 x as fast as torch's
    return scores.argmax(dim=1)


def nearest_few(points: Tensor, centres: Tensor, count: int) -> Tensor:
    """Indices ``[N, count]`` of the nearest centres, nearest first."""
    bias, few = (centres * centres).sum(dim=1) / 2, min(count, len(centres))
    blocks = [(block @ centres.T - bias).topk(few, dim=1).indices for block in torch.split(points, ROWS)]
    return torch.cat(blocks)


def nearest_among_neighbours(points: Tensor, centres: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`nearest`, nearly: a point is compared with the centres of the groups about its own group.

    Made for training, where a few second-best codes cost nothing; `codes` searches all.
    """
    leaders = first_centres(centres, min(GROUPS, len(centres)), generator)
    for _ in range(3):
        leaders = _means(centres, nearest(centres, leaders)[0], leaders)
    members, home = _by_group(nearest(centres, leaders)[0], len(leaders)), nearest(points, leaders)[0]
    distance = torch.cdist(leaders, leaders)
    index = torch.empty(len(points), dtype=torch.int64, device=points.device)
    error = torch.empty(len(points), device=points.device)
    for group, rows in enumerate(_by_group(home, len(leaders))):
        if not len(rows):
            continue
        among = _first_of([members[near] for near in distance[group].argsort().tolist()], CANDIDATES)
        found, error[rows] = nearest(points[rows], centres[among])
        index[rows] = among[found]
    return index, error


def _by_group(group: Tensor, groups: int) -> list[Tensor]:
    """Which rows are in each group."""
    sizes = torch.bincount(group, minlength=groups).tolist()
    return list(torch.split(torch.argsort(group), sizes))


def _first_of(lists: list[Tensor], wanted: int) -> Tensor:
    """The lists joined, as many as hold `wanted` entries (all of them, where they don't)."""
    taken, total = [], 0
    for rows in lists:
        taken.append(rows)
        total += len(rows)
        if total >= wanted:
            break
    return torch.cat(taken)


def _means(points: Tensor, index: Tensor, centres: Tensor) -> Tensor:
    """The mean of each centre's points; a centre without points stays where it is."""
    counts = torch.bincount(index, minlength=centres.shape[0])
    sums = torch.zeros_like(centres).index_add_(0, index, points)
    return torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres)


def equalising_amplitude(log_mels: Tensor) -> float:
    """The scale at which the root half has the variance of the logarithm half."""
    both = features(log_mels, 1.0).var(dim=0)
    width = FRAMES_PER_CODE * BANDS
    return float((both[:width].sum() / both[width : 2 * width].sum()).sqrt())


def principal_components(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``[W]`` and the leading components ``[W, D]`` of rows ``[N, W]``, each with its largest entry positive."""
    mean = rows.mean(dim=0)
    centred = (rows - mean).double()
    vectors = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -COMPONENTS:].flip(1)
    sign = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign()
    return mean, (vectors * sign).float().contiguous()


def k_means_step(points: Tensor, centres: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
    """One Lloyd pass: new centres and the mean squared error before it. Empty centres move onto badly coded points."""
    index, error = nearest_among_neighbours(points, centres, generator)
    moved = _means(points, index, centres)
    empty = torch.nonzero(torch.bincount(index, minlength=centres.shape[0]) == 0)[:, 0]
    if len(empty):
        # beyond 2^24 points torch.multinomial refuses: a random subset is as good
        pool = torch.randperm(len(points), generator=generator)[: 2**23].to(points.device)
        chance = error[pool].clamp_min(0).double() + 1e-9
        draws = torch.multinomial(chance.cpu(), len(empty), generator=generator).to(points.device)
        moved[empty] = points[pool[draws]]
    return moved, float(error.mean())


def first_centres(points: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """`size` different rows of the sample; `ValueError` for a sample that is smaller."""
    if len(points) < size:
        raise ValueError(f"a sample of {len(points)} code-long frames can't fill {size} codes: raise codebook_points")
    return points[torch.randperm(len(points), generator=generator)[:size].to(points.device)].clone()
