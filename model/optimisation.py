"""What an optimiser works on: AdamW and its groups, the rate of each step, and the mean of the weights over steps."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model.config import StageConfig
from model.whole import place

Weights = Mapping[str, Tensor]


def adamw(module: nn.Module, stage: StageConfig) -> torch.optim.AdamW:
    """AdamW (paper 5.2); `decay: matrices` spares norms, biases and embeddings, `all` nothing."""
    return torch.optim.AdamW(_groups(module, stage), stage.learning_rate, stage.betas, stage.eps)


def _groups(module: nn.Module, stage: StageConfig) -> list[dict[str, Any]]:
    if stage.decay == "all":
        return [{"params": list(module.parameters()), "weight_decay": stage.weight_decay}]
    decayed = {id(m.weight) for m in module.modules() if isinstance(m, nn.Linear)}
    matrices = [p for p in module.parameters() if id(p) in decayed]
    rest = [p for p in module.parameters() if id(p) not in decayed]
    return [{"params": matrices, "weight_decay": stage.weight_decay}, {"params": rest, "weight_decay": 0.0}]


def learning_rate(stage: StageConfig, step: int) -> float:
    """Rate of the stage's step `step` (0-based): linear warm-up to the peak, then a cosine that ends at zero."""
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    done = (step - stage.warmup_steps) / max(1, stage.steps - stage.warmup_steps)
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


class WeightMean:
    """Exponential moving average of the weights, in float32: after n steps, the weights of step k count
    (1 - d) d^(n - k), the first ones d^n."""

    def __init__(self, decay: float, weights: Weights) -> None:
        self.decay = decay
        self.mean = {name: _high(tensor.detach()).clone() for name, tensor in weights.items()}

    @torch.no_grad()
    def add(self, weights: Weights) -> None:
        """One step's weights."""
        for name, tensor in weights.items():
            self.mean[name].lerp_(_high(tensor.detach()), 1 - self.decay)

    def load(self, mean: Weights) -> None:
        """A mean that was saved, whole."""
        for name, tensor in mean.items():
            self.mean[name].copy_(place(tensor, self.mean[name]))


def recompute(layers: Iterable[nn.Module]) -> None:
    """Forget the activations inside each layer and compute them again for the gradient: memory for a third more time.

    Attention dropout draws the same numbers again.
    """
    for layer in layers:
        layer.forward = _recomputed(layer.forward)


def _recomputed(forward: Any) -> Any:
    def again(*inputs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs)
        return torch.utils.checkpoint.checkpoint(forward, *inputs, use_reentrant=False)

    return again


def compile_each(layers: nn.ModuleList) -> None:
    """Compile layer by layer in place: one small graph serves them all but the last, and parameter names stay as they
    are. The last computes wanted rows alone, whose number may change with every step."""
    for layer in layers:
        layer.compile(dynamic=None if layer is layers[-1] else False)


def _high(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
