"""Floating-point operations of a training step, and the most that a device does in a second: the share is MFU.

Conventions: a multiply-add counts as two; matrix products alone; a backward pass counts twice its forward, and what is
computed again to save memory counts for nothing (model FLOPs, not hardware FLOPs: arXiv 2204.02311, appendix B).
"""

import time
from dataclasses import dataclass

import torch

from model.config import CODES, ModelConfig, ObjectiveConfig

# Dense peaks of tensor cores with float32 sums, FLOP/s, by a part of the device's name; the makers' data sheets:
# NVIDIA A100 and A800 (312 bf16, 156 TF32; float32 without it 19.5), H100 and H200 SXM (989 bf16), H100 PCIe (756),
# L40S (362), A10 (125), RTX 4090 (165)
PEAKS = {
    "H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "H800": 989e12, "A100": 312e12, "A800": 312e12,
    "L40S": 362e12, "A10G": 125e12, "A10": 125e12, "RTX 4090": 165e12,
}  # fmt: skip
SIDE, TRIES = 1024, 5  # of the matrix product that a CPU is measured by: 8 ms each on two cores


def backbone_flops(model: ModelConfig, rows: int, frames: int) -> float:
    """One forward pass of `rows` rows of `frames` codes, through the layers alone."""
    length = frames * (2 if model.layout == "prefix" else 1) + model.prefix_slots
    heads, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    weights = model.width * (2 * heads + 2 * keys + 3 * model.ffn)
    return float(rows * length * model.layers * (2 * weights + 4 * length * heads))


def spared_flops(model: ModelConfig, rows: int, frames: int, wanted: float) -> float:
    """What the last layer leaves out of a forward pass where only `wanted` codes of all rows are asked for."""
    if model.kind != "mask":
        return 0.0
    length = frames * (2 if model.layout == "prefix" else 1) + model.prefix_slots
    heads = model.heads * model.head_dim
    weights = model.width * (2 * heads + 3 * model.ffn)  # keys and values stay
    return (rows * length - wanted) * (2 * weights + 4 * length * heads)


def step_flops(model: ModelConfig, objective: ObjectiveConfig, rows: int, frames: int, masked: float) -> float:
    """A step over `rows` rows of `frames` codes, of which `masked` are predicted: forward and backward, both passes."""
    forward = backbone_flops(model, rows, frames)
    passes, judges = 3.0, objective.rtd.weight > 0
    spared = 0.0 if judges and objective.rtd.mode == "same_pass" else spared_flops(model, rows, frames, masked)
    if judges and objective.rtd.mode != "same_pass":
        passes += 3.0 if objective.rtd.mode == "second_pass" else 1.0
    head = 0.0 if model.kind == "flow" else 2.0 * model.width * CODES * masked
    return passes * forward + 3 * (head - spared)


@dataclass(frozen=True, slots=True)
class Pace:
    """What the steps of a stage are measured by."""

    model: ModelConfig
    objective: ObjectiveConfig
    rows: int  # of a step, all processes
    frames: int  # of a row
    peak: float  # FLOP/s of all processes' devices; 0 = not known

    def told(self, steps: int, masked: float, seconds: float) -> dict[str, float]:
        """``mfu``, the share of the peak that `steps` with `masked` codes in all reached; empty without a peak."""
        if not self.peak:
            return {}
        done = step_flops(self.model, self.objective, self.rows * steps, self.frames, masked)
        return {"mfu": done / seconds / self.peak}


def peak_flops(device: torch.device, precision: str) -> float:
    """Of one process's device, FLOP/s: published for GPUs we know, 0 for others; of a CPU measured now, in float32."""
    if device.type == "cpu":
        return measured_peak()
    if precision == "no":
        return 0.0  # whether float32 runs on tensor cores is the user's setting
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), 0.0)


def measured_peak() -> float:
    """The fastest of a few matrix products on this process's threads."""
    a = torch.ones(SIDE, SIDE)
    fastest = float("inf")
    for _ in range(TRIES):
        begun = time.perf_counter()
        a @ a
        fastest = min(fastest, time.perf_counter() - begun)
    return 2 * SIDE**3 / fastest
