"""What `test_gloo.py` launches on several processes: short trainings in float64, one folder a case.

Arguments: the dataset, the folder for the runs, and cases as JSON: name -> {"accumulation", "batch_size", "objective",
"stop" (steps, 0 = to the end), "listen" (whether a voice is played to at the end), "weight_mean", "recompute",
"kind" (of the model)}.
"""

import json
import sys
from pathlib import Path

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from model.config import ModelConfig, SamplerConfig, StageConfig, TrainingConfig, TrainRun
from model.flow import FlowObjective
from model.objective import Objective
from model.stopping import StopRequest
from model.train import Trainer

MODEL = ModelConfig(layers=2, width=16, heads=2, kv_heads=1, head_dim=8, ffn=32, prefix_width=8, attention_dropout=0.0)
STEPS = 3


class Exact(Trainer):
    """A trainer in float64 that leaves the process group to the next one: gloo meets only once at a store."""

    def __init__(self, run: TrainRun, dataset: Path, out: Path, stop: StopRequest) -> None:
        super().__init__(run, dataset, out, stop)
        self.accelerator.end_training = self.accelerator.wait_for_everyone

    def _new_objective(self) -> Objective | FlowObjective:
        return super()._new_objective().double()


class StopAfter(StopRequest):
    """Asked to stop after so many steps; 0 = never."""

    def __init__(self, steps: int) -> None:
        self.asked, self.steps = 0, steps

    @property
    def requested(self) -> bool:  # type: ignore[override]
        self.asked += 1
        return 0 < self.steps < self.asked


def recipe(
    accumulation: int,
    batch_size: int,
    objective: dict[str, object],
    weight_mean: float = 0.0,
    listen: bool = False,
    recompute: bool = False,
    kind: str = "mask",
) -> TrainRun:
    """One short stage, songs shorter than the crop among others."""
    stage = StageConfig(
        name="stage1", split="train-stage1", crop_tokens=32, steps=STEPS, batch_size=batch_size,
        accumulation=accumulation, learning_rate=1e-2, warmup_steps=1,
    )  # fmt: skip
    training = TrainingConfig.model_validate(
        {
            "stages": [stage], "objective": objective, "precision": "no", "crop_mode": "slice", "log_with": "",
            "log_every": 1, "checkpoint_every": 100, "weight_mean": weight_mean, "listen_every": STEPS * listen,
            "recompute": recompute,
        }
    )  # fmt: skip
    sampler = SamplerConfig(steps=4, guidance_text=2.0)
    return TrainRun(model=MODEL.model_copy(update={"kind": kind}), training=training, sampler=sampler)


def forget_devices() -> None:
    """As in a new process that is one of the same group."""
    AcceleratorState._reset_state()
    if PartialState._shared_state["distributed_type"] == DistributedType.FSDP:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_CPU  # as the launcher's ranks begin


def run_all(dataset: Path, out: Path, cases: dict[str, dict[str, object]]) -> None:
    for name, case in cases.items():
        settings = {key: value for key, value in case.items() if key != "stop"}
        stop = case.get("stop", 0)
        assert isinstance(stop, int)
        Exact(recipe(**settings), dataset, out / name, StopAfter(stop))()  # type: ignore[arg-type]
        forget_devices()


if __name__ == "__main__":
    run_all(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
