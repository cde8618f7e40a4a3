"""Fit a network step by step, and go on where a stopped run was.

Conventions: every step draws from a generator of its own, seeded by the run and the step, so that a run that was
stopped ends with the same weights as one that was not.
"""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.structure.corpus import Progress

CHECKPOINT_EVERY = 100  # steps
WARM_UP = 0.1  # share of the steps until the learning rate is highest
LONGEST_GRADIENT = 1.0
Step = Callable[[np.random.Generator], Tensor]


class Fit:
    """One network, its optimizer and its losses."""

    def __init__(self, network: nn.Module, steps: int, learning_rate: float, weight_decay: float, seed: int) -> None:
        self.network, self.steps, self.seed = network, steps, seed
        torch.manual_seed(seed)
        network.apply(_fresh)
        self.optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, learning_rate, total_steps=steps, pct_start=WARM_UP
        )
        self.losses: list[float] = []

    def run(self, path: Path, loss_of: Step, progress: Progress) -> list[float]:
        """Take the steps that are left; the state lies at `path`, whose stem names the phase. The loss of each step."""
        if path.exists():
            self._restore(path)
        phase = path.stem.split("-")[0]
        self.network.train()
        for step in range(len(self.losses), self.steps):
            torch.manual_seed(self.seed + step)
            self._take(loss_of(np.random.default_rng([self.seed, zlib.crc32(phase.encode()), step])))
            if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == self.steps:
                self._save(path)
                progress(f"{phase} {np.mean(self.losses[-CHECKPOINT_EVERY:]):.3f}", (step + 1) / self.steps)
        self.network.eval()
        return self.losses

    def _take(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), LONGEST_GRADIENT)
        self.optimizer.step()
        self.schedule.step()
        self.losses.append(loss.item())

    def _save(self, path: Path) -> None:
        state = {
            "losses": self.losses,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def _restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.losses = list(state["losses"])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])


def _fresh(module: nn.Module) -> None:
    """Draw a layer's first weights again, so that they depend on the seed alone."""
    if isinstance(module, nn.Conv1d):
        module.reset_parameters()
