"""What the 1B model takes on GPUs that were not at hand: arithmetic over published peaks, at stated utilisations.

Conventions: *derived*, nothing here was measured. FLOP are useful ones (`model.flops`); a second of audio is 25 codes.
The utilisations are what others report for dense transformers of this size (below); the rest of a step (optimiser,
data, sampling) is in them. Put in their place what `mfu` in your own training journal says.
"""

import math
from dataclasses import dataclass

from flows.bench import sampler
from model.config import STAGE1, STAGE2, ModelConfig, ObjectiveConfig, RtdConfig, StageConfig
from model.flops import step_flops

MASKED = 2 / math.pi  # mean share of masked frames under the cosine law: the integral of cos(pi p / 2) over 0..1
CODES_A_SECOND = 25.0  # the shard contract
GPUS = 8  # of the paper's training (5.2)


@dataclass(frozen=True, slots=True)
class Device:
    name: str
    peak: float  # FLOP/s, dense bf16; NVIDIA's data sheets
    used: float  # share of it
    source: str


DEVICES = (
    Device("A100 80 GB", 312e12, 0.50, "TinyLlama's README has 24,000 tokens/s and 56 % at 1.1B on an A100-40G"),
    Device(
        "H100 SXM",
        989e12,
        0.40,
        "nanotron's 1B has 42,000 tokens/s (marin, issue 1826), about 35 %; nanochat's log 41-46 %",
    ),
)
MODEL = ModelConfig.model_validate({"shape": "1b"})


def training_flop(stage: StageConfig, second_pass: bool) -> float:
    """Of one optimiser step on one GPU, forward and backward."""
    rows = stage.batch_size * stage.accumulation
    objective = ObjectiveConfig(rtd=RtdConfig(weight=0.2 if second_pass else 0.0))
    return step_flops(MODEL, objective, rows, stage.crop_tokens, rows * stage.crop_tokens * MASKED)


def generation_flop(frames: int, steps: int, variants: int) -> float:
    """Of one song; `variants` rows a song by guidance."""
    return sampler.flop(sampler.Setting(model=MODEL, frames=frames, steps=steps), variants, everything=False)


def page() -> str:
    """Both tables, Markdown."""
    return "\n".join([*_training(), "", *_generation(), "", *_sources()])


def _training() -> list[str]:
    names = " | ".join(f"{device.name}, s a step / k codes a second / {GPUS} GPUs, h" for device in DEVICES)
    lines = [
        f"| training, a step of {STAGE1.batch_size * STAGE1.accumulation} rows a GPU | TFLOP | {names} |",
        "|---|---|" + "---|" * len(DEVICES),
    ]
    for stage in (STAGE1, STAGE2):
        for second_pass in (False, True):
            work = training_flop(stage, second_pass)
            codes = stage.batch_size * stage.accumulation * stage.crop_tokens
            cells = []
            for device in DEVICES:
                seconds = work / (device.peak * device.used)
                cells.append(f"{seconds:.2f} / {codes / seconds / 1e3:.1f} / {stage.steps * seconds / 3600:.1f}")
            what = f"{stage.name}, {stage.crop_tokens} codes, RTD {'in a second pass' if second_pass else 'off'}"
            lines.append(f"| {what} | {work / 1e12:.0f} | {' | '.join(cells)} |")
    return lines


def _generation() -> list[str]:
    names = " | ".join(f"{device.name}, s / RTF" for device in DEVICES)
    lines = [f"| generating 163.84 s | TFLOP | {names} |", "|---|---|" + "---|" * len(DEVICES)]
    for steps in (60, 20):
        for variants, guidance in ((1, "none"), (2, "one scale"), (3, "text and reference apart")):
            work = generation_flop(STAGE2.crop_tokens, steps, variants)
            cells = []
            for device in DEVICES:
                seconds = work / (device.peak * device.used)
                cells.append(f"{seconds:.1f} / {seconds * CODES_A_SECOND / STAGE2.crop_tokens:.3f}")
            lines.append(f"| {steps} steps, guidance: {guidance} | {work / 1e12:.0f} | {' | '.join(cells)} |")
    return lines


def _sources() -> list[str]:
    """Where every number comes from."""
    devices = [
        f"- {one.name}: {one.peak / 1e12:.0f} TFLOP/s dense bf16 (NVIDIA), MFU {one.used:.0%}: {one.source}."
        for one in DEVICES
    ]
    rows = STAGE1.batch_size * STAGE1.accumulation
    return [
        "Derived, not measured: TFLOP / (peak x MFU). Inputs:",
        *devices,
        "- TFLOP: `model.flops`, which a test holds against torch's own counter.",
        f"- Model of {MODEL.layers} layers and width {MODEL.width}; {rows} rows a GPU, crops, steps: paper 5.2.",
        f"- {MASKED:.1%} of the frames masked: the mean of the cosine law, of training and of generation alike.",
    ]
