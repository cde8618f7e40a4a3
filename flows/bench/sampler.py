"""A whole generation beside the usual way to the same law: logits of every frame, all of them sorted, in turns.

Conventions: seconds are CPU time of the process tree over threads for one generation, medians over rounds; a ratio is
the full sort's time over ours, paired by rounds, with Student's 95 % interval on logarithms. Both get the same uniforms
and must give the same codes: checked in float64, where rounding decides no draw. GFLOP are useful ones (`model.flops`);
bytes are what the allocator held at the most above weights and inputs. Song and weights are random; the head's are
enlarged, so that nuclei differ from frame to frame.
"""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np
import torch
from torch import Tensor

from flows.bench import gauge
from flows.bench.dataplane import ratio
from flows.bench.training import MODEL, UnequalError
from model.config import CODES, MASK, ModelConfig, SamplerConfig
from model.denoising import Conditions, Song, denoise_many, guidance_rows, guided
from model.flops import backbone_flops, spared_flops
from model.network import MaskPredictor
from model.sampling import remask_counts
from model.schedule import generator

HEAD_SCALE = 10.0  # logits of standard deviation 4, as a trained model's are
Way = Callable[[SamplerConfig], Tensor]
BAR = 1.8  # least ratio (lower end)
TINY = 1e-20  # keeps the Gumbel noise finite
CHECKED = 4  # steps at most of the generation in float64 that must be the same; it takes twice the time


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured."""

    model: ModelConfig = MODEL
    frames: int = 1024  # T
    steps: int = 20  # the preset `fast`
    guidance: float = 2.0  # two rows a song, as wherever text or reference are followed closely; 1 = one row
    threads: int = 2
    rounds: int = 3  # of 100 CPU seconds each; single rounds differ by 1 or 2 %
    seed: int = 0

    @property
    def sampler(self) -> SamplerConfig:
        return SamplerConfig(steps=self.steps, guidance_text=self.guidance, guidance_reference=self.guidance)


@dataclass(frozen=True, slots=True)
class Result:
    """One way."""

    variant: str  # ours, full-sort
    seconds: float  # of a generation, CPU time over threads, median
    peak_bytes: int
    gflops: float  # useful GFLOP a second
    share_of_peak: float
    ratio: float  # to full-sort; geometric mean
    ratio_low: float  # lower end of its 95 % interval
    ratio_high: float
    gemm_gflops: float  # the peak
    frames: int
    steps: int
    guidance: float
    same_codes: bool  # in float64, or there is no result
    equal_share: float  # of the codes in float32, where the first draw that rounds otherwise changes all after it
    threads: int
    rounds: int
    load: float  # mean run queue of the last minute, at the end: others' work included
    torch: str  # version

    @property
    def missed(self) -> list[str]:
        """What is demanded and not reached."""
        low = self.variant == "ours" and self.ratio_low < BAR
        return [f"ratio_low {self.ratio_low:.3f} < {BAR}"] if low else []


def run(setting: Setting, show: Callable[[int, int], None]) -> list[Result]:
    """Both ways; `UnequalError` where their codes differ."""
    torch.set_num_threads(setting.threads)
    network, song = make_network(setting), make_song(setting)
    check_equal(setting, network, song)
    ways: dict[str, Way] = {
        "ours": lambda config: ours(network, song, config),
        "full-sort": lambda config: full_sort(network, song, config),
    }
    first = setting.sampler.model_copy(update={"steps": 1})  # everything masked: the most a step ever holds
    peaks = {name: gauge.peak_bytes(_work(way, first)) for name, way in ways.items()}  # also warms up
    drawn: dict[str, Tensor] = {}
    works = {name: _kept(drawn, name, way, setting.sampler) for name, way in ways.items()}
    seconds = gauge.in_turns(works | gauge.products(), setting.rounds, setting.threads, show)
    equal = float((drawn["ours"] == drawn["full-sort"]).double().mean())
    return [_result(setting, name, seconds, peaks[name], equal) for name in ways]


def check_equal(setting: Setting, network: MaskPredictor, song: Song) -> None:
    """`UnequalError` where the two ways give other codes, in a generation of few steps in float64."""
    precise = deepcopy(network).double()
    config = setting.sampler.model_copy(update={"steps": min(setting.steps, CHECKED)})
    one, other = ours(precise, song, config), full_sort(precise, song, config)
    if differ := int((one != other).sum()):
        raise UnequalError(f"the two ways differ in {differ} of {len(one)} codes: not the same law")


def _result(setting: Setting, name: str, seconds: Mapping[str, list[float]], peak: int, equal: float) -> Result:
    paired, gemm = ratio(list(zip(seconds[name], seconds["full-sort"], strict=True))), gauge.gemm_speed(seconds)
    speed = flop(setting, 1 if setting.guidance == 1 else 2, name != "ours") / median(seconds[name])
    return Result(
        variant=name,
        seconds=median(seconds[name]),
        peak_bytes=peak,
        gflops=speed / 1e9,
        share_of_peak=speed / gemm,
        ratio=paired.mean,
        ratio_low=paired.low,
        ratio_high=paired.high,
        gemm_gflops=gemm / 1e9,
        frames=setting.frames,
        steps=setting.steps,
        guidance=setting.guidance,
        same_codes=True,
        equal_share=equal,
        threads=setting.threads,
        rounds=setting.rounds,
        load=gauge.load(),
        torch=torch.__version__,
    )


def _work(way: Way, config: SamplerConfig) -> gauge.Work:
    return lambda: way(config)


def _kept(drawn: dict[str, Tensor], name: str, way: Way, config: SamplerConfig) -> gauge.Work:
    return lambda: drawn.update({name: way(config)})


def make_network(setting: Setting) -> MaskPredictor:
    torch.manual_seed(setting.seed)
    network = MaskPredictor(setting.model, rtd=False).eval()
    with torch.no_grad():
        network.to_logits.weight.mul_(HEAD_SCALE)
    return network


def make_song(setting: Setting) -> Song:
    draw = torch.Generator().manual_seed(setting.seed)
    vectors = torch.randn(setting.model.prefix_slots, setting.model.prefix_width, generator=draw)
    vocal = np.random.default_rng(setting.seed).integers(0, CODES, setting.frames).astype(np.uint16)
    return Song(vocal, Conditions(vectors, torch.zeros(setting.model.prefix_slots, dtype=torch.bool)), setting.seed)


def ours(network: MaskPredictor, song: Song, config: SamplerConfig) -> Tensor:
    """Codes `[T]` as `backline generate` draws them."""
    return torch.from_numpy(denoise_many(network, [song], config)[0].astype(np.int64))


@torch.inference_mode()
def full_sort(network: MaskPredictor, song: Song, config: SamplerConfig) -> Tensor:
    """Codes `[T]` by the released law as VampNet's sampler goes about it (github.com/hugofloresgarcia/vampnet): logits
    of every frame, each step, all of them sorted."""
    codes = torch.full((1, len(song.vocal)), MASK)
    uniform, free = generator(song.seed, "sampler"), torch.tensor([len(song.vocal)])
    dropped = guidance_rows(song.conditions.missing_P, config)
    rows = len(dropped)
    vocal = torch.from_numpy(song.vocal.astype(np.int64)).expand(rows, -1)
    prefix = song.conditions.vectors_PW.expand(rows, -1, -1)
    for step in range(config.steps):
        masked = codes == MASK
        hidden = network.hidden(vocal, codes.expand(rows, -1), prefix, None, dropped)
        logits = guided(network.logits(hidden), config)
        drawn, probability = _sorted_draw(logits, masked[0], uniform, config)
        noise = torch.rand(int(masked.sum()), generator=uniform)
        gumbel = -(-noise.clamp(min=TINY).log()).clamp(min=TINY).log()
        score = torch.full(codes.shape, torch.inf, dtype=probability.dtype)
        score[masked] = probability.log() + config.mask_temperature * (1 - (step + 1) / config.steps) * gumbel
        again = score.argsort(dim=1, stable=True)[:, : int(remask_counts(config, step, free, masked.sum(dim=1)))]
        codes = codes.masked_scatter(masked, drawn).scatter(1, again, MASK)
    return codes[0]


def _sorted_draw(
    logits: Tensor, masked: Tensor, uniform: torch.Generator, config: SamplerConfig
) -> tuple[Tensor, Tensor]:
    """Codes of the masked frames and their filtered probabilities."""
    ordered, codes = logits.sort(dim=-1, descending=True)
    before = ordered.softmax(dim=-1).cumsum(dim=-1).roll(1, dims=-1)
    before[:, 0] = 0
    outside = (before > config.top_p) | (torch.arange(logits.shape[-1]) >= config.top_k)
    kept = (ordered / config.temperature).masked_fill(outside, -torch.inf).softmax(dim=-1)
    cumulated = kept.cumsum(dim=-1)
    drawn = torch.zeros(len(masked))
    drawn[masked] = torch.rand(int(masked.sum()), generator=uniform)
    place = torch.searchsorted(cumulated, drawn[:, None] * cumulated[:, -1:], right=True)
    place = torch.minimum(place, (kept > 0).sum(dim=-1, keepdim=True) - 1)
    return codes.gather(1, place)[masked, 0], kept.gather(1, place)[masked, 0]


def flop(setting: Setting, variants: int, everything: bool) -> float:
    """Useful arithmetic of one generation with `variants` rows a song: every frame's logits of every variant, or those
    of masked frames alone, guided before the head."""
    backbone = setting.steps * backbone_flops(setting.model, variants, setting.frames)
    logit = 2.0 * setting.model.width * CODES
    if everything:
        return backbone + logit * variants * setting.steps * setting.frames
    counts = masked_counts(setting)
    spared = sum(spared_flops(setting.model, variants, setting.frames, variants * count) for count in counts)
    return backbone - spared + logit * sum(counts)


def masked_counts(setting: Setting) -> list[int]:
    """Masked frames before each step."""
    counts, free = [setting.frames], torch.tensor([setting.frames])
    for step in range(setting.steps - 1):
        counts.append(int(remask_counts(setting.sampler, step, free, torch.tensor([counts[-1]]))))
    return counts


def to_json(result: Result) -> str:
    return json.dumps(asdict(result))
