"""What a run tells while it trains: scalars, held-out likelihood, a voice played along with, and a picture of it all.

Conventions: every process calls the reporter at the same steps, for sums are over all of them; the main one writes.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator

from model.checkpoint import Progress
from model.config import StageConfig, TrainRun
from model.flow import FlowPredictor
from model.journal import Journal, Meter
from model.network import MaskPredictor
from model.validation import told, validate, validation_rows
from pipeline.codec.codec import weights_sha256
from pipeline.records.schema import Sample

logger = logging.getLogger(__name__)
Network = MaskPredictor | FlowPredictor


class Reporter:
    """The reports of one stage; `held_out` are the songs of `val`."""

    def __init__(
        self, run: TrainRun, out: Path, accelerator: Accelerator, journal: Journal, held_out: Sequence[Sample]
    ) -> None:
        self.run, self.config, self.out = run, run.training, out
        self.accelerator, self.journal, self.held_out = accelerator, journal, held_out

    def __call__(self, network: Network, stage: StageConfig, progress: Progress, meter: Meter) -> None:
        """Whatever is due after this step."""
        p, c, last = progress, self.config, progress.stage_step == stage.steps
        self.journal.advance(p.step, stage.name)
        values: dict[str, float] = {}
        if p.step % c.log_every == 0 or last:
            values |= meter.read(lambda sums: self.accelerator.reduce(sums, reduction="sum"))
            values["reference_impossible"] = p.reference_impossible
        with meter.apart():
            validates = p.stage_step % c.validate_every == 0 or last
            if validates:
                values |= self._validated(network, stage)
            if values:
                self.journal.write({"step": p.step, "stage": stage.name, **values})
                self.accelerator.log({f"{stage.name}/{name}": value for name, value in values.items()}, step=p.step)
            if self.accelerator.is_main_process and validates:
                self._draw()
            if c.listen_every and (p.stage_step % c.listen_every == 0 or last):
                self._listen(network, p)

    def _validated(self, network: Network, stage: StageConfig) -> dict[str, float]:
        if isinstance(network, FlowPredictor):
            logger.info("no held-out likelihood: model.kind flow has none")
            return {}
        if not self.held_out:
            logger.info("no held-out likelihood: the split val is empty or validate_samples is 0")
            return {}
        device, processes = self.accelerator.device, int(self.accelerator.num_processes)
        rows = validation_rows(self.held_out, self.config, stage, int(self.accelerator.process_index), processes)
        sums = validate(network, rows, self.config.validate_draws, device)
        return told(self.accelerator.reduce(sums.to(device), reduction="sum"))

    def _draw(self) -> None:
        from model.curves import draw  # matplotlib

        draw(self.out)

    def _listen(self, network: Network, progress: Progress) -> None:
        """The main process plays, the others wait for it at their next sum; of a network in shards all play."""
        if why := self._deaf(network, progress):
            logger.info("nothing is played: %s", why)
            return
        if not isinstance(network, MaskPredictor) or not (self.accelerator.is_main_process or self._in_shards):
            return
        from model import audition  # the codec, librosa, matplotlib

        sample = audition.voice_of(self.held_out)
        played = audition.play_behind(network, sample, self.run)
        if self.accelerator.is_main_process:
            logger.info("played: %s", audition.write_heard(sample, played, self.run, self.out, progress.step))

    @property
    def _in_shards(self) -> bool:
        return bool(self.accelerator.is_fsdp2)

    def _deaf(self, network: Network, progress: Progress) -> str:
        """Why there is nothing to hear; empty where there is."""
        if not self.held_out:
            return "the split val is empty or validate_samples is 0"
        if isinstance(network, FlowPredictor):
            return "model.kind flow plays latents, which backline generate does"
        if self._in_shards and self.run.sampler.entropy_bound > 0:
            return (
                "processes that hold shards must take as many steps as one another, which sampler.entropy_bound leaves "
                "to the logits; set it to 0, or play a checkpoint by backline generate"
            )
        if weights_sha256(self.run.codec) != progress.codec_sha256:
            return "the codec here is not the one that made the shards"
        return ""
