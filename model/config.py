"""Every setting of the model, its training and its sampler; the defaults are the recipe `paper`.

Conventions: tokens are 25 Hz codec frames, so 1024 tokens are 40.96 s; ratios and probabilities are 0..1. "Released
code" is the authors' published implementation, named where the paper is silent or differs.
"""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.codec.codec import CodecConfig
from pipeline.conditioning.conditioner import ConditioningConfig
from pipeline.config import Config
from pipeline.loudness import LoudnessConfig

CODES = 16_384  # accompaniment codes that can be predicted; width of the output head (paper 5.2)
MASK = 16_384  # accompaniment id of a masked frame; never predicted (paper 5.2)
PAD = 16_385  # accompaniment id beyond the end of a song; never predicted (paper 5.2)
VOCAL_PAD = 16_384  # vocal id beyond the end of a song (released code)

# Share still masked after progress p: cos(pi p / 2), 1 - p, (1 - p) ** x with sqrt 0.5, square 2, cubic 3, power 2.
NamedSchedule = Annotated[str, Field(pattern=r"^(cosine|linear|sqrt|square|cubic|power(:\d+(\.\d+)?)?)$")]


Corruption = Literal["bernoulli", "exact", "spans"]
"""How frames are masked in training; see `model.masking`."""

Kind = Literal["mask", "autoregressive", "flow"]
"""What the backbone predicts: masked codes (the paper), the next code, or the velocity of continuous latents."""


SHAPES: dict[str, dict[str, int | float]] = {  # what `model: {shape: ...}` in a recipe stands for
    "tiny": {  # ours: minutes on two CPU cores, embedded conditioner
        "layers": 4, "width": 256, "heads": 4, "kv_heads": 2, "head_dim": 64, "ffn": 704, "attention_dropout": 0.0,
        "prefix_width": 384,
    },
    "1b": {"layers": 16, "width": 2048, "heads": 32, "kv_heads": 8, "head_dim": 64, "ffn": 8192},  # paper 5.2
    "3b": {"layers": 28, "width": 3072, "heads": 24, "kv_heads": 8, "head_dim": 128, "ffn": 8192},  # released code
}  # fmt: skip


def check_ratios(ratios: tuple[float, ...]) -> None:
    """`ValueError` where a listed schedule is none."""
    if not ratios or any(not 0 <= r <= 1 for r in ratios) or any(b > a for a, b in pairwise(ratios)):
        raise ValueError(f"schedule ratios must be non-increasing and within 0..1, got {ratios}")


class ModelConfig(Config):
    """The mask predictor. Default shape: Llama-3.2-1B (paper 5.2), 1.04 billion parameters.

    `shape` names an entry of `SHAPES`, which the settings beside it override; what is kept are the numbers.
    """

    layers: int = Field(default=16, ge=1)
    width: int = Field(default=2048, ge=2)  # D; the two tracks get D/2 each (paper 4.1)
    heads: int = Field(default=32, ge=1)
    kv_heads: int = Field(default=8, ge=1)
    head_dim: int = Field(default=64, ge=2)
    ffn: int = Field(default=8192, ge=1)  # width of the SwiGLU
    rope_theta: float = Field(default=500_000.0, gt=0)  # Llama 3.2; the released code trains with 10000
    rope_scaling: bool = False  # Llama-3 frequency scaling, factor 32 from 8192 positions (Llama 3.2)
    rms_eps: float = Field(default=1e-5, gt=0)  # Llama 3.2; released code 1e-6
    attention_dropout: float = Field(default=0.1, ge=0, lt=1)  # released code
    prefix_width: int = Field(default=768, ge=1)  # W; CLaMP3 768 (paper 5.2), embedded conditioner 384
    prefix_slots: int = Field(default=2, ge=1)  # P: text, reference audio (paper 5.2)
    null: Literal["zero", "learned"] = "zero"  # vector of a dropped slot, before the projection; released code: zero
    init_std: float = Field(default=0.02, gt=0)  # normal, of linear and embedding weights (Llama)
    init: Literal["random", "llama"] = "random"  # of the backbone; llama: from `init_weights` (released code's option)
    init_weights: str = ""  # a LlamaModel of this very shape: a safetensors file, or the folder that holds them
    kind: Kind = "mask"  # the others: ablations of the paper's table 3
    layout: Literal["dual", "prefix"] = "dual"  # tracks side by side (paper 4.1), or the vocal before the accompaniment
    # of `layout: prefix`: one count through both tracks, or the same position for what sounds at the same time; ours,
    # the paper does not say
    positions: Literal["concat", "aligned"] = "concat"
    # codes of the vocal that an autoregressive `dual` hears ahead (the song's first ones it then never hears); ours
    lookahead: int = Field(default=0, ge=0)
    embeddings: Literal["random", "codebook"] = "random"  # codebook: the codec's centroids, see model.codebook
    # codebook: the same for the head; ours, for little data
    head: Literal["random", "codebook"] = "random"
    latent_width: int = Field(default=128, ge=1)  # of `kind: flow`; the embedded codec's latents have 128
    pack: bool = False  # songs of unequal length end to end instead of padded: no work for pads, the same answers

    @model_validator(mode="before")
    @classmethod
    def _of_shape(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "shape" not in given:
            return given
        own = {name: value for name, value in given.items() if name != "shape"}
        if given["shape"] not in SHAPES:
            raise ValueError(f"there is no shape {given['shape']!r}; name one of {', '.join(SHAPES)}")
        return {**SHAPES[given["shape"]], **own}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        if self.width % 2 or self.head_dim % 2:
            raise ValueError(f"width {self.width} and head_dim {self.head_dim} must be even")
        return self

    @model_validator(mode="after")
    def _combines(self) -> Self:
        wrong = {
            "model.init llama needs model.init_weights, and the other way round": (self.init == "llama")
            != bool(self.init_weights),
            "model.positions aligned needs model.layout prefix": self.positions == "aligned" and self.layout == "dual",
            "model.lookahead needs model.kind autoregressive and model.layout dual": self.lookahead > 0
            and (self.kind != "autoregressive" or self.layout != "dual"),
            "model.pack of an autoregressive network needs model.layout dual": self.pack
            and self.kind == "autoregressive"
            and self.layout == "prefix",
            "model.kind flow has no codes: set model.embeddings and model.head to random": self.kind == "flow"
            and "codebook" in (self.embeddings, self.head),
        }
        if found := [rule for rule, broken in wrong.items() if broken]:
            raise ValueError("; ".join(found))
        return self


class RtdConfig(Config):
    """Replaced-token detection (paper 4.2, Eq. 4)."""

    weight: float = Field(default=0.2, ge=0)  # lambda; paper 5.2; 0 builds no head and runs no second pass
    mode: Literal["second_pass", "head_only", "same_pass"] = "second_pass"  # head_only: released code
    replace: Literal["argmax", "sample", "uniform"] = "argmax"  # paper 5.2
    temperature: float = Field(default=1.0, gt=0)  # of `sample` only; paper 5.2
    share: float = Field(default=0.15, gt=0, lt=1)  # of visible tokens replaced under same_pass; ours, as in BERT

    @model_validator(mode="after")
    def _one_pass_knows_no_logits(self) -> Self:
        if self.mode == "same_pass" and self.replace != "uniform":
            raise ValueError(
                f"rtd.mode same_pass replaces before the network runs: set rtd.replace to uniform, got {self.replace}"
            )
        return self


class ObjectiveConfig(Config):
    """What one training step minimises."""

    # mask ratio of Sobol r: cos(pi r / 2) (paper 5.2), another law of the sampler's, or a list of ratios
    mask_schedule: NamedSchedule | tuple[float, ...] = "cosine"
    corruption: Corruption = "bernoulli"  # paper 5.2; released code also knows an exact count and spans
    span_frames: int = Field(default=25, ge=1)  # of corruption spans, 1 s; ours
    loss: Literal["inv_t", "mean_masked", "elbo"] = "inv_t"  # paper Eq. 3; released code: mean_masked
    scope: Literal["micro_batch", "global"] = "micro_batch"  # of mean_masked's mean; released code: micro_batch
    min_ratio: float = Field(default=1e-3, gt=0, le=1)  # least mask ratio; ours, the value of MDLM and LLaDA
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    rtd: RtdConfig = RtdConfig()

    @model_validator(mode="after")
    def _bound_needs_uniform_ratios(self) -> Self:
        if self.loss == "elbo" and self.mask_schedule != "linear":
            raise ValueError(
                f"loss elbo needs uniform mask ratios: set mask_schedule to linear, got {self.mask_schedule}"
            )
        if self.loss == "elbo" and self.corruption != "bernoulli":
            raise ValueError(
                f"loss elbo needs frames masked independently: set corruption to bernoulli, got {self.corruption}"
            )
        if not isinstance(self.mask_schedule, str):
            check_ratios(self.mask_schedule)
        return self


class StageConfig(Config):
    """One stage of the curriculum; optimiser and learning-rate schedule restart with it."""

    name: str
    split: str  # shard set to read
    crop_tokens: int = Field(ge=1)  # 25 Hz frames; longer songs are cropped, shorter ones padded with pad tokens
    steps: int = Field(ge=1)  # optimiser steps
    batch_size: int = Field(default=2, ge=1)  # samples a process and micro-batch; paper 5.2
    accumulation: int = Field(default=4, ge=1)  # micro-batches a step; paper 5.2
    learning_rate: float = Field(default=1e-5, gt=0)  # peak, cosine to zero; paper 5.2
    warmup_steps: int = Field(default=10_000, ge=0)  # linear; paper 5.2
    weight_decay: float = Field(default=0.01, ge=0)  # AdamW; paper 5.2
    decay: Literal["all", "matrices"] = "all"  # what decays; paper and released code: every parameter
    betas: tuple[float, float] = (0.9, 0.999)  # released code
    eps: float = Field(default=1e-8, gt=0)  # paper 5.2
    condition_dropout: float = Field(default=0.5, ge=0, le=1)  # text and reference, independently; paper 5.2


STAGE1 = StageConfig(name="stage1", split="train-stage1", crop_tokens=1024, steps=150_000)  # 40.96 s; paper 5.2
STAGE2 = StageConfig(name="stage2", split="train-stage2", crop_tokens=4096, steps=40_000)  # 163.84 s; paper 5.2


class TrainingConfig(Config):
    """The loop around the objective.

    `until` names the last stage that is trained; what is kept are the stages.
    """

    stages: tuple[StageConfig, ...] = Field(default=(STAGE1, STAGE2), min_length=1)
    objective: ObjectiveConfig = ObjectiveConfig()
    seed: int = Field(default=0, ge=0)  # of weights, Sobol stream, masks, crops and condition dropout
    clip: float = Field(default=1.0, gt=0)  # largest global gradient norm; paper 5.2
    weight_mean: float = Field(
        default=0.0, ge=0, lt=1
    )  # decay of the moving average that is kept; 0 = none; paper: none
    compile: bool = False  # each layer by torch.compile; needs a compiler
    recompute: bool = False  # activations of each layer again in the backward pass; for 3b on 80 GB
    precision: Literal["no", "bf16", "fp16"] = "bf16"  # Accelerate's mixed precision; paper 5.2; "no" (fp32) on CPU
    crop_mode: Literal["encoded_windows", "slice"] = "encoded_windows"  # slice: only codecs without windows
    workers: int = Field(default=0, ge=0)  # data-loader processes; changes no byte of the training
    log_with: str = "tensorboard"  # any tracker Accelerate knows
    log_every: int = Field(default=10, ge=1)  # steps
    checkpoint_every: int = Field(default=500, ge=1)  # steps; released code
    keep: int = Field(default=2, ge=1)  # newest checkpoints of a stage that stay; its last one always does
    validate_every: int = Field(default=500, ge=1)  # steps
    validate_samples: int = Field(default=8, ge=0)  # songs of `val`; 0 = none
    validate_draws: int = Field(default=4, ge=1)  # masks a song, of the exact estimator
    listen_every: int = Field(default=5000, ge=0)  # steps, and a stage's end: a voice of `val` is played to; 0 = never

    @model_validator(mode="before")
    @classmethod
    def _cut(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "until" not in given:
            return given
        stages = tuple(StageConfig.model_validate(stage) for stage in given.get("stages", (STAGE1, STAGE2)))
        names = [stage.name for stage in stages]
        if given["until"] not in names:
            raise ValueError(f"training.until names no stage: got {given['until']!r}, there are {', '.join(names)}")
        own = {name: value for name, value in given.items() if name != "until"}
        return {**own, "stages": stages[: names.index(given["until"]) + 1]}

    @model_validator(mode="after")
    def _stages_apart(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"training.stages are kept by name: give each its own, got {', '.join(names)}")
        return self


class SamplerConfig(Config):
    """How an accompaniment is drawn from the mask predictor (paper 4.3, 5.2)."""

    steps: int = Field(default=60, ge=1)  # paper 5.2
    schedule: NamedSchedule | tuple[float, ...] = "cosine"  # paper 5.2; or one non-increasing ratio a step
    top_k: int = Field(default=100, ge=0)  # codes; 0 = all; paper 5.2
    top_p: float = Field(default=0.9, gt=0, le=1)  # of the full, untempered distribution; paper 5.2
    temperature: float = Field(default=1.0, ge=0)  # after the filter; 0 = the likeliest code; paper 5.2
    mask_temperature: float = Field(default=10.5, ge=0)  # of the Gumbel noise on the log confidence; paper 5.2
    confidence: Literal["sampled", "max"] = "sampled"  # released code; "max": paper 4.3
    guidance_text: float = Field(default=1.0, ge=0)  # 1 = off; the paper gives no scale
    guidance_reference: float = Field(default=1.0, ge=0)  # 1 = off
    guidance_interval: tuple[float, float] = (0.0, 1.0)  # shares of the steps: where guidance acts; ours, all of them
    # Nats. 0 = counts by the schedule. Else a step settles frames, best first, while their summed entropy without the
    # largest stays within it (EB-Sampler, arXiv 2505.24857), and `steps` is the most it takes
    entropy_bound: float = Field(default=0.0, ge=0)
    prefix_order: Literal["text_reference", "reference_text"] = "text_reference"  # released inference: reference_text
    missing_text: Literal["null", "empty_text"] = "null"  # released inference: the embedding of ""
    long: Literal["whole", "windowed"] = "whole"  # songs longer than window_tokens; released code: whole
    window_tokens: int = Field(default=4096, ge=2)  # 163.84 s, stage 2's crop (paper 5.2)
    overlap_tokens: int = Field(default=1024, ge=1)  # kept fixed from the window before; ours
    solver: Literal["euler", "heun"] = "heun"  # of `model.kind: flow`, which knows no filter; ours
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.overlap_tokens >= self.window_tokens:
            raise ValueError(f"overlap_tokens {self.overlap_tokens} must be below window_tokens {self.window_tokens}")
        begin, end = self.guidance_interval
        if not 0 <= begin <= end <= 1:
            raise ValueError(f"guidance_interval must be two shares of the steps in order, got {begin} and {end}")
        if isinstance(self.schedule, tuple):
            if len(self.schedule) != self.steps:
                raise ValueError(f"schedule lists {len(self.schedule)} ratios for {self.steps} steps; give one a step")
            check_ratios(self.schedule)
        return self


class TrainRun(Config):
    """All that training needs to know; saved as JSON into every checkpoint."""

    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    sampler: SamplerConfig = SamplerConfig()
    codec: CodecConfig = CodecConfig()
    conditioning: ConditioningConfig = ConditioningConfig()
    loudness: LoudnessConfig = LoudnessConfig()  # the build's; a vocal and a reference are heard under it

    @model_validator(mode="after")
    def _combines(self) -> Self:
        kind, objective = self.model.kind, self.training.objective
        wrong = {
            "model.pack gives every batch another length, which training.compile would compile anew: set one of them "
            "to false": self.model.pack and self.training.compile,
        }
        if kind != "mask":
            wrong |= {
                f"model.kind {kind} learns from every frame: set training.objective.mask_schedule to [1.0] and "
                f"corruption to bernoulli, got {objective.mask_schedule} and {objective.corruption}": (
                    objective.mask_schedule != (1.0,) or objective.corruption != "bernoulli"
                ),
                f"model.kind {kind} masks nothing whose replacement could be told: set training.objective.rtd.weight "
                f"to 0, got {objective.rtd.weight}": objective.rtd.weight > 0,
                "model.kind flow predicts no code whose label could be smoothed: set "
                f"training.objective.label_smoothing to 0, got {objective.label_smoothing}": (
                    kind == "flow" and objective.label_smoothing > 0
                ),
                f"model.kind {kind} has no masks to settle: set sampler.entropy_bound to 0": self.sampler.entropy_bound
                > 0,
                f"model.kind {kind} is guided throughout: set sampler.guidance_interval to [0, 1]": (
                    self.sampler.guidance_interval != (0.0, 1.0)
                ),
                f"model.kind {kind} plays songs whole: set sampler.long to whole": self.sampler.long == "windowed",
            }
        if found := [rule for rule, broken in wrong.items() if broken]:
            raise ValueError("; ".join(found))
        return self
