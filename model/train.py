"""Training: the stages of one run, resumable, on any devices that Accelerate drives.

Conventions: a step is one optimiser step over `accumulation` micro-batches on every process; losses are nats. Sums are
divided by the denominators of the whole step, so accumulation and processes give the gradient of one large batch. On
SIGTERM to any one of the processes the step is finished, a checkpoint saved and the exit code is 75: the same command
resumes. `model.endings` says the same in files, which launchers don't swallow.
"""

import argparse
import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from pydantic import ValidationError
from torch import Tensor

from model import checkpoint, endings
from model.checkpoint import Progress, TrainState
from model.config import StageConfig, TrainRun
from model.data import Batch, Drawing, MicroBatches, RowSource, Slicing
from model.devices import accelerator_for, on_cpu, optimizer_for, random_state, set_random_state, spread
from model.flops import Pace, peak_flops
from model.flow import FlowObjective
from model.identity import check_folder
from model.journal import Journal, Meter
from model.kinds import begin, build_objective
from model.lock import sole_trainer
from model.network import parameter_counts
from model.objective import Objective, denominators
from model.optimisation import WeightMean, compile_each, learning_rate, recompute
from model.reporting import Reporter
from model.schedule import generator
from model.shards import ShardSamples, load_training_split, manifest_sha256, weights_behind
from model.stopping import RESUME_ME, StopRequest, leave_to_trainer
from model.whole import load_optimizer, scalar, whole
from pipeline.errors import BadInput, PipelineError

logger = logging.getLogger(__name__)


class TrainingDivergedError(PipelineError):
    """The gradient is not finite; the newest checkpoint is from before."""


@dataclass(frozen=True, slots=True)
class Outcome:
    finished: bool  # False: stopped on request, the same call resumes
    step: int
    checkpoint: Path


@dataclass(frozen=True, slots=True)
class Agreement:
    """What all processes know of a step before it runs."""

    masked: Tensor  # denominators of the step, float64 scalars
    replaced: Tensor
    reference_impossible: int  # rows
    stop: bool  # some process was asked to


def train(run: TrainRun, dataset: Path, out: Path) -> Outcome:
    """Train, or go on training, the run in `out`. `BadInput` where it holds another run or the data has changed."""
    check_folder(out, run, manifest_sha256(dataset))
    if checkpoint.complete(out / checkpoint.FINAL):
        done = checkpoint.load(out / checkpoint.FINAL)
        logger.info("%s is finished at step %d: nothing to do", out, done.progress.step)
        return Outcome(True, done.progress.step, done.path)
    # Whoever holds the lock is soon ready to be stopped; before that, a stop just ends us.
    with sole_trainer(out) if PartialState(cpu=on_cpu()).is_main_process else nullcontext(), StopRequest() as stop:
        return Trainer(run, dataset, out, stop)()


class Trainer:
    """One run, in one process of possibly several."""

    def __init__(self, run: TrainRun, dataset: Path, out: Path, stop: StopRequest) -> None:
        self.run, self.config, self.dataset, self.out, self.stop = run, run.training, dataset, out, stop
        self.accelerator = accelerator_for(self.config, out)
        torch.manual_seed(self.config.seed)
        self.objective = self._new_objective()
        torch.manual_seed(generator(self.config.seed, "dropout", self.rank).initial_seed())
        self.progress, kept, self.state = self._resumed()
        self.saved = None if self.state is None else self.progress  # where the newest checkpoint stands
        if self.config.recompute:
            recompute(self.objective.network.lm.layers)
        if self.config.compile:
            compile_each(self.objective.network.lm.layers)
        self.module = spread(self.accelerator, self.objective, self.objective.network, self.config.stages[0])
        self.mean = WeightMean(self.config.weight_mean, self._weights()) if self.config.weight_mean > 0 else None
        if self.mean is not None:
            self.mean.load(kept)
        self.optimizer = self._new_optimizer(self.config.stages[0])

    @property
    def rank(self) -> int:
        return int(self.accelerator.process_index)

    @property
    def processes(self) -> int:
        return int(self.accelerator.num_processes)

    def __call__(self) -> Outcome:
        self._forget_last_ending()
        stages = self.config.stages
        logger.info("parameters: backbone %(backbone)d, total %(total)d", parameter_counts(self.objective.network))
        self.accelerator.init_trackers("backline", init_kwargs=self._tracker_options())
        with Journal(self.out, sum(s.steps for s in stages), self.progress.step, self.is_main) as journal:
            for index in range(self.progress.stage, len(stages)):
                if not self._run_stage(index, journal):
                    return self._stopped()
        self.accelerator.end_training()
        return Outcome(True, self.progress.step, self.out / checkpoint.FINAL)

    @property
    def is_main(self) -> bool:
        return bool(self.accelerator.is_main_process)

    def _forget_last_ending(self) -> None:
        self.accelerator.wait_for_everyone()  # what a process said that refused to come this far stays
        if self.is_main:
            endings.clear(self.out)
        self.accelerator.wait_for_everyone()

    def _stopped(self) -> Outcome:
        saved = self._step_folder() if self.saved == self.progress else self._save_step()
        if self.is_main:
            endings.stopped(self.out, self.progress.step)
        return Outcome(False, self.progress.step, saved)

    def _run_stage(self, index: int, journal: Journal) -> bool:
        """(The rest of) one stage; False where a stop was requested. `BadInput` where the dataset was rebuilt since."""
        stage, manifest = self.config.stages[index], self.progress.manifest_sha256
        samples = load_training_split(self.dataset, stage, self.run.model, manifest)
        held_out = ShardSamples(self.dataset, "val", sha256=manifest) if self.config.validate_samples else ()
        report = Reporter(self.run, self.out, self.accelerator, journal, held_out)
        codec, conditioner = weights_behind(samples[0])
        self.progress = replace(self.progress, codec_sha256=codec, conditioner_sha256=conditioner)
        self._begin_stage(stage)
        drawing = Drawing(self.config.seed, index, stage.crop_tokens, self.config.crop_mode, stage.condition_dropout)
        drawing = replace(drawing, latents=self.run.model.kind == "flow")
        meter = Meter(self._pace(stage))
        for batches in self._steps(stage, RowSource(samples, drawing)):
            agreed = self._agree(batches)
            if agreed.stop:
                return False
            self._step(stage, batches, agreed, meter)
            report(self.objective.network, stage, self.progress, meter)
            if self.progress.step % self.config.checkpoint_every == 0 and self.progress.stage_step < stage.steps:
                with meter.apart():
                    self._save_step()
        self._end_stage(index, stage)
        return True

    def _pace(self, stage: StageConfig) -> Pace:
        rows = stage.batch_size * stage.accumulation * self.processes
        peak = self.processes * peak_flops(self.accelerator.device, self.config.precision)
        return Pace(self.run.model, self.config.objective, rows, stage.crop_tokens, peak)

    def _begin_stage(self, stage: StageConfig) -> None:
        """A new optimiser, or the one that the run was stopped with; and its random state."""
        self.optimizer = self._new_optimizer(stage)
        if self.state is not None and self.progress.stage_step > 0:
            load_optimizer(self.optimizer, self.state.optimizer)
        if self.state is not None:
            set_random_state(self.state.rng[self.rank] if self.rank < len(self.state.rng) else {})
        self.state = None
        self.module.train()

    def _new_objective(self) -> Objective | FlowObjective:
        objective = build_objective(self.run.model, self.config.objective)
        begin(objective.network, self.run)
        return objective

    def _new_optimizer(self, stage: StageConfig) -> Any:
        return optimizer_for(self.accelerator, self.objective, stage)

    def _steps(self, stage: StageConfig, source: RowSource) -> Iterator[list[Batch]]:
        """The micro-batches of each step that the stage still has to take."""
        p = self.progress
        slicing = Slicing(
            first=p.stage_samples,
            stream_offset=p.samples - p.stage_samples,
            batch_size=stage.batch_size,
            rank=self.rank,
            processes=self.processes,
            objective=self.config.objective,
        )
        steps = stage.steps - p.stage_step
        loader = torch.utils.data.DataLoader(
            MicroBatches(source, slicing),
            batch_size=None,
            sampler=range(steps * stage.accumulation),
            num_workers=self.config.workers,
            worker_init_fn=leave_to_trainer,
            generator=torch.Generator(),  # the default draws from the global stream, which a resumed run must not
        )
        batches = iter(loader)
        for _ in range(steps):
            yield list(islice(batches, stage.accumulation))

    def _agree(self, batches: Sequence[Batch]) -> Agreement:
        parts = [denominators(self.config.objective, batch) for batch in batches]
        local = [
            float(sum(part.masked for part in parts)),
            float(sum(part.replaced for part in parts)),
            float(sum(batch.reference_impossible for batch in batches)),
            float(self.stop.requested),
        ]
        device = self.accelerator.device
        total = self.accelerator.reduce(torch.tensor(local, dtype=torch.float64, device=device), reduction="sum")
        masked, replaced, impossible, stop = total.unbind()
        return Agreement(masked, replaced, int(impossible), bool(stop))

    def _step(self, stage: StageConfig, batches: Sequence[Batch], agreed: Agreement, meter: Meter) -> None:
        """One optimiser step."""
        rate = learning_rate(stage, self.progress.stage_step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.module):
                self._backward(batch.to(self.accelerator.device), len(batches), agreed, meter)
        norm = scalar(self.accelerator.clip_grad_norm_(self.objective.parameters(), self.config.clip))
        if self.config.precision != "fp16" and not math.isfinite(norm):
            raise TrainingDivergedError(
                f"gradient norm {norm} at step {self.progress.step + 1} of {self.out}; lower the stage's "
                "learning_rate and give a new --out"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.mean is not None:
            self.mean.add(self._weights())
        meter.step(rate, norm)
        self._advance(stage, agreed.reference_impossible)

    def _backward(self, batch: Batch, micro_batches: int, agreed: Agreement, meter: Meter) -> None:
        """Add one micro-batch's share of the step's gradient."""
        objective = self.config.objective
        masked, weight = agreed.masked, objective.rtd.weight
        if objective.loss == "mean_masked" and objective.scope == "micro_batch":
            masked = denominators(objective, batch).masked * micro_batches * self.processes
        sums = self.module(batch)
        cml, rtd = _ratio(sums.masked_loss, masked), _ratio(sums.replaced_loss, agreed.replaced)
        self.accelerator.backward((cml + weight * rtd) * self.processes)  # processes are averaged, we want their sum
        meter.add(cml, rtd, weight, sums, batch.valid_BT.sum())

    def _advance(self, stage: StageConfig, reference_impossible: int) -> None:
        p, rows = self.progress, stage.batch_size * stage.accumulation * self.processes
        self.progress = replace(
            p,
            step=p.step + 1,
            stage_step=p.stage_step + 1,
            samples=p.samples + rows,
            stage_samples=p.stage_samples + rows,
            reference_impossible=p.reference_impossible + reference_impossible,
        )

    def _end_stage(self, index: int, stage: StageConfig) -> None:
        """Keep the stage's weights, and go to the next stage's start."""
        last = index == len(self.config.stages) - 1
        self._save(self.out / (checkpoint.FINAL if last else f"after-{stage.name}"), with_state=False)
        self.progress = replace(self.progress, stage=index + 1, stage_step=0, stage_samples=0)
        if not last:
            self._save_step()

    def _save_step(self) -> Path:
        path = self._step_folder()
        self._save(path, with_state=True)
        if self.is_main:
            checkpoint.prune(self.out, self.config.keep)
        self.accelerator.wait_for_everyone()
        self.saved = self.progress
        return path

    def _step_folder(self) -> Path:
        return self.out / f"step-{self.progress.step:08d}"

    def _save(self, path: Path, with_state: bool) -> None:
        rng = gather_object([random_state()]) if with_state else []
        kept = whole(self._weights() if self.mean is None else self.mean.mean)
        trained = whole(self._weights()) if self.mean is not None and with_state else {}
        optimizer = whole(self.optimizer.state_dict()) if with_state else {}
        if self.is_main:
            state = TrainState(optimizer, trained, tuple(rng)) if with_state else None
            checkpoint.save(path, kept, self.run, self.progress, state)
        self.accelerator.wait_for_everyone()

    def _resumed(self) -> tuple[Progress, Mapping[str, Tensor], TrainState | None]:
        """Where the run in `out` stands, what is kept of its weights, and the rest; the trained weights are loaded.

        A fresh start where there is no checkpoint.
        """
        manifest = manifest_sha256(self.dataset)
        newest = checkpoint.latest(self.out)
        if newest is None:
            return Progress(manifest_sha256=manifest), {}, None
        found = checkpoint.load(newest)
        kept, state = found.weights(), found.state()
        self.objective.network.load_state_dict(state.weights or kept)
        logger.info("resuming %s after step %d", newest, found.progress.step)
        if len(state.rng) != self.processes:
            logger.warning(
                "%s was saved by %d processes, here are %d: steps take other numbers of rows from now on; launch %d to "
                "go on as before", newest, len(state.rng), self.processes, len(state.rng),
            )  # fmt: skip
        return found.progress, kept, state

    def _weights(self) -> Mapping[str, Tensor]:
        weights: Mapping[str, Tensor] = self.objective.network.state_dict()
        return weights

    def _tracker_options(self) -> dict[str, dict[str, int]]:
        """TensorBoard hides what a killed run wrote beyond the checkpoint that this one resumes from."""
        return {"tensorboard": {"purge_step": self.progress.step + 1}} if self.config.log_with == "tensorboard" else {}


def _ratio(total: Tensor, denominator: Tensor) -> Tensor:
    return total / denominator.clamp(min=1).to(device=total.device, dtype=total.dtype)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m model.train`, also under `accelerate launch`; 0 finished, 75 stopped and saved, 1 can't be trained."""
    parser = argparse.ArgumentParser(prog="python -m model.train", description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="train_run.json: model, training, sampler settings")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of a built dataset (manifest.json, shards)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an unfinished run in it is resumed")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        outcome = train(_read_run(given.run), given.dataset, given.out)
    except PipelineError as error:
        logger.error("%s", error)
        if not (isinstance(error, BadInput) and error.reason == "in_use"):  # the folder is the other trainer's
            endings.refused(given.out, str(error))
        return 1
    return 0 if outcome.finished else RESUME_ME


def _read_run(path: Path) -> TrainRun:
    try:
        return TrainRun.model_validate_json(path.read_text())
    except (FileNotFoundError, ValidationError) as error:
        raise BadInput(f"{path} can't be read ({error}); write it with backline train --prepare", "run") from error


if __name__ == "__main__":
    sys.exit(main())
