"""From nothing but masks to an accompaniment, in N steps of drawing codes and re-masking the doubtful (paper 4.3).

No network in here: `Predict` maps what is known to logits of what is masked. Every row draws from its own generator and
is counted by itself, so its codes depend on its logits and its seed, not on the rows beside it.

Shape suffixes: `B` rows, `T` frames, `M` masked frames of the batch in row-major order, `V` codes, `K` candidate codes.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import CODES, MASK, PAD, SamplerConfig
from model.schedule import generator, remask_ratio

# accompaniment_BT int64, masked_BT bool, share of the steps that are done -> logits_MV, whole or in blocks of rows
Predict = Callable[[Tensor, Tensor, float], Tensor | Iterable[Tensor]]
Progress = Callable[[int, int], None]  # steps done, steps in all
FREE = -1  # in `fixed_BT`: to be generated
TINY = 1e-20  # keeps both logarithms of the Gumbel noise finite


@dataclass(frozen=True, slots=True)
class Candidates:
    """The codes that survive the filter, likeliest first."""

    codes_MK: Tensor  # int64
    probability_MK: Tensor  # float32 at least, sums to 1; 0 where the nucleus was cut
    peak_M: Tensor  # float32 at least, largest probability of the full, untempered distribution


def sample(
    predict: Predict,
    valid_BT: Tensor,
    config: SamplerConfig,
    seeds: Sequence[int],
    fixed_BT: Tensor | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Codes int64 `[B, T]`, `PAD` where not valid.

    `seeds` holds one a row. `fixed_BT` holds codes to keep and `FREE` (-1) elsewhere; they are never reopened, and the
    schedule counts only the frames that were free at the start.
    """
    codes_BT = _start(valid_BT, fixed_BT)
    generators = [generator(seed, "sampler") for seed in seeds]
    if len(generators) != len(codes_BT):
        raise ValueError(f"{len(codes_BT)} rows need one seed each, got {len(generators)}")
    free_B = (codes_BT == MASK).sum(dim=1)
    for step in range(config.steps):
        masked_BT = codes_BT == MASK
        if not bool(masked_BT.any()):
            if progress is not None:
                progress(config.steps, config.steps)
            break
        candidates = _candidates(predict(codes_BT, masked_BT, step / config.steps), masked_BT, config)
        codes_BT = _advance(candidates, codes_BT, masked_BT, free_B, config, step, generators)
        if progress is not None:
            progress(step + 1, config.steps)
    return codes_BT


def _start(valid_BT: Tensor, fixed_BT: Tensor | None) -> Tensor:
    """Everything masked but the fixed codes and the padding."""
    codes_BT = torch.full(valid_BT.shape, MASK, dtype=torch.int64, device=valid_BT.device)
    if fixed_BT is not None:
        if fixed_BT.shape != valid_BT.shape:
            raise ValueError(f"fixed codes {list(fixed_BT.shape)} must have the shape of valid {list(valid_BT.shape)}")
        wrong = valid_BT & ((fixed_BT < FREE) | (fixed_BT >= CODES))
        if bool(wrong.any()):
            raise ValueError(f"fixed codes must be {FREE} (free) or 0..{CODES - 1}, got {int(fixed_BT[wrong][0])}")
        codes_BT = torch.where(fixed_BT == FREE, codes_BT, fixed_BT.to(codes_BT))
    return codes_BT.masked_fill(~valid_BT, PAD)


def _candidates(logits: Tensor | Iterable[Tensor], masked_BT: Tensor, config: SamplerConfig) -> Candidates:
    """Every masked frame's, block by block: logits need not all stand at once."""
    blocks = [logits] if isinstance(logits, Tensor) else logits
    parts = [filter_logits(_narrow(block_MV), config) for block_MV in blocks]
    codes_MK, probability_MK, peak_M = (
        torch.cat(columns)
        for columns in zip(*((part.codes_MK, part.probability_MK, part.peak_M) for part in parts), strict=True)
    )
    if len(codes_MK) != (rows := int(masked_BT.sum())):
        raise ValueError(f"predict must return [{rows}, V] logits, one row a masked frame, got {len(codes_MK)} rows")
    return Candidates(codes_MK, probability_MK, peak_M)


def _narrow(logits_MV: Tensor) -> Tensor:
    if logits_MV.shape[1] > CODES:
        raise ValueError(f"predict must return logits of {CODES} codes at most, got {logits_MV.shape[1]}")
    return logits_MV


def remask_counts(config: SamplerConfig, step: int, free_B: Tensor, masked_B: Tensor) -> Tensor:
    """How many frames of each row stay masked after `step` (0-based). int64 `[B]`.

    floor(gamma((i + 1) / N) * free), at least 1 and at most one fewer than now until the last step, which leaves none;
    a row with a single masked frame keeps it open until then.
    """
    if step == config.steps - 1:
        return torch.zeros_like(masked_B)
    ratio = remask_ratio(config.schedule, (step + 1) / config.steps)
    wanted_B = torch.tensor([math.floor(ratio * free) for free in free_B.tolist()], device=masked_B.device)
    return torch.minimum(torch.minimum(wanted_B, masked_B - 1).clamp(min=1), masked_B)


def _advance(
    candidates: Candidates,
    codes_BT: Tensor,
    masked_BT: Tensor,
    free_B: Tensor,
    config: SamplerConfig,
    step: int,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """One step: draw every masked frame, then mask the least confident of them again."""
    masked_B = masked_BT.sum(dim=1)
    counts = masked_B.tolist()
    drawn_M, confidence_M = draw(candidates, _uniforms(counts, generators, masked_BT.device), config)
    noise_M = _gumbel(_uniforms(counts, generators, masked_BT.device))
    score_M = confidence_M.log() + config.mask_temperature * (1 - (step + 1) / config.steps) * noise_M
    ranked = Ranked.of(score_M, masked_BT)
    if config.entropy_bound > 0 and step < config.steps - 1:
        remask_B = masked_B - within_bound(entropies(candidates), ranked, config.entropy_bound)
    else:
        remask_B = remask_counts(config, step, free_B, masked_B)
    drawn_BT = codes_BT.masked_scatter(masked_BT, drawn_M)
    return drawn_BT.masked_fill(ranked.lowest(remask_B), MASK)


def filter_logits(logits_MV: Tensor, config: SamplerConfig) -> Candidates:
    """The released law without a full sort: nucleus of the untempered distribution, cut to `top_k`, then temperature.

    The `top_k` largest are cumulated as shares of *all* codes; a code stays while the mass before it is at
    most `top_p`, so the one that crosses stays. Temperature 0 counts as 1 here; `draw` then takes the first.
    """
    logits_MV = _high(logits_MV)
    width = min(config.top_k or logits_MV.shape[1], logits_MV.shape[1])
    top_MK, codes_MK = logits_MV.topk(width, dim=-1)
    largest_M1 = logits_MV.softmax(dim=-1).gather(1, codes_MK[:, :1])  # softmax is one pass, logsumexp four
    share_MK = (top_MK - top_MK[:, :1]).exp() * largest_M1
    before_MK = torch.nn.functional.pad(share_MK.cumsum(dim=-1), (1, 0))[:, :-1]
    outside_MK = before_MK > config.top_p if config.top_p < 1 else torch.zeros_like(before_MK, dtype=torch.bool)
    tempered_MK = (top_MK / (config.temperature or 1.0)).masked_fill(outside_MK, -torch.inf)
    return Candidates(codes_MK, tempered_MK.softmax(dim=-1), share_MK[:, 0])


def draw(candidates: Candidates, uniform_M: Tensor, config: SamplerConfig) -> tuple[Tensor, Tensor]:
    """Codes `[M]` by inverting the cumulated probabilities at `uniform_M`, and their confidence `[M]`, 0..1.

    Confidence is the filtered probability of the code drawn (`sampled`) or the largest of the unfiltered ones (`max`).
    """
    cumulated_MK = candidates.probability_MK.cumsum(dim=-1)
    if config.temperature == 0:
        place_M1 = torch.zeros_like(uniform_M, dtype=torch.int64)[:, None]
    else:
        target_M1 = (uniform_M[:, None] * cumulated_MK[:, -1:]).to(cumulated_MK)
        last_M1 = (candidates.probability_MK > 0).sum(dim=-1, keepdim=True) - 1  # rounding must not draw a cut code
        place_M1 = torch.minimum(torch.searchsorted(cumulated_MK, target_M1, right=True), last_M1)
    drawn_M = candidates.codes_MK.gather(1, place_M1).squeeze(1)
    if config.confidence == "max":
        return drawn_M, candidates.peak_M
    return drawn_M, candidates.probability_MK.gather(1, place_M1).squeeze(1)


@dataclass(frozen=True, slots=True)
class Ranked:
    """Each row's masked frames in the order of their scores.

    By rank, never by threshold: a count is exact whatever the ties; of equal scores the earlier frame comes first.
    """

    order_BT: Tensor  # int64, frames from the lowest score on; those that are not masked come last
    masked_BT: Tensor

    @classmethod
    def of(cls, score_M: Tensor, masked_BT: Tensor) -> "Ranked":
        score_BT = torch.full(masked_BT.shape, torch.inf, dtype=score_M.dtype, device=score_M.device)
        return cls(score_BT.masked_scatter(masked_BT, score_M).argsort(dim=1, stable=True), masked_BT)

    def lowest(self, count_B: Tensor) -> Tensor:
        """The `count_B` frames of each row with the lowest scores, bool `[B, T]`."""
        chosen_BT = torch.arange(self.order_BT.shape[1], device=self.order_BT.device) < count_B[:, None]
        lowest_BT: Tensor = torch.zeros_like(self.masked_BT).scatter(1, self.order_BT, chosen_BT) & self.masked_BT
        return lowest_BT


def entropies(candidates: Candidates) -> Tensor:
    """Of what each masked frame is drawn from, in nats `[M]`."""
    entropy_M: Tensor = torch.special.entr(candidates.probability_MK).sum(dim=-1)
    return entropy_M


def within_bound(entropy_M: Tensor, ranked: Ranked, bound: float) -> Tensor:
    """How many frames of each row, best scores first, may settle together. int64 `[B]`, at least 1 where one is masked.

    As long as the sum of their entropies less the largest, which bounds what drawing them apart misses of their joint
    entropy, stays within `bound` nats (EB-Sampler, arXiv 2505.24857).
    """
    entropy_BT = torch.zeros(ranked.masked_BT.shape, dtype=entropy_M.dtype, device=entropy_M.device)
    best_BT = entropy_BT.masked_scatter(ranked.masked_BT, entropy_M).gather(1, ranked.order_BT).flip(1)
    excess_BT = best_BT.cumsum(dim=1) - best_BT.cummax(dim=1).values
    masked_B = ranked.masked_BT.sum(dim=1)
    unmasked_B = ranked.masked_BT.shape[1] - masked_B  # they come first after the flip and add nothing
    settled_B: Tensor = (excess_BT <= bound).sum(dim=1) - unmasked_B
    return settled_B.clamp(min=1).minimum(masked_B)


def _uniforms(counts: Sequence[int], generators: Sequence[torch.Generator], device: torch.device) -> Tensor:
    """One uniform in [0, 1) for each masked frame `[M]`, each row's from its own generator."""
    rows = [torch.rand(count, generator=g) for count, g in zip(counts, generators, strict=True)]
    return torch.cat(rows).to(device)


def _gumbel(uniform: Tensor) -> Tensor:
    return -(-uniform.clamp(min=TINY).log()).clamp(min=TINY).log()


def guide(both_MV: Tensor, text_MV: Tensor | None, none_MV: Tensor, config: SamplerConfig) -> Tensor:
    """Guided logits: none + guidance_text * (text - none) + guidance_reference * (both - text), float32 at least.

    `both` saw text and reference, `text` the text alone, `none` neither. Scales of 1 give `both`; where the scales are
    equal `text_MV` is not needed.
    """
    both_MV, none_MV = _high(both_MV), _high(none_MV)
    if config.guidance_text == config.guidance_reference:
        return both_MV if config.guidance_text == 1 else none_MV + config.guidance_text * (both_MV - none_MV)
    if text_MV is None:
        scales = f"{config.guidance_text} and {config.guidance_reference}"
        raise ValueError(f"guidance scales {scales} differ: the logits with text alone are needed")
    text_MV = _high(text_MV)
    return none_MV + config.guidance_text * (text_MV - none_MV) + config.guidance_reference * (both_MV - text_MV)


def _high(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def plan_windows(frames: int, window: int, overlap: int) -> tuple[tuple[int, int], ...]:
    """Half-open windows that cover `frames` in order, each at least `overlap` frames into the one before.

    All are `window` long (a song no longer than that has one, of its own length); the last ends with the song.
    """
    if not 0 < overlap < window:
        raise ValueError(f"overlap must be within 1..{window - 1} (window {window}), got {overlap}")
    if frames <= window:
        return ((0, frames),)
    starts = [*range(0, frames - window, window - overlap), frames - window]
    return tuple((start, start + window) for start in starts)
