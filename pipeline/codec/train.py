"""Train the embedded codec: k-means codes first, then the decoder on those fixed codes.

Conventions: seeded; every phase leaves its result in ``<out>.parts/``, so that a run that was stopped goes on where it
was and ends with the same weights; of another run's parts (other settings or files) only files that were read alike
serve.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.codec import codebook as books
from pipeline.codec.codebook import Codebook
from pipeline.codec.codec import CODEBOOK_SIZE
from pipeline.codec.corpus import Corpus, CorpusConfig, Progress, code_rows, read
from pipeline.codec.decoder import Decoder
from pipeline.codec.embedded import load, save
from pipeline.codec.mel import BANDS, FRAMES_PER_CODE
from pipeline.codec.pitch import tone
from pipeline.config import Config

logger = logging.getLogger(__name__)
ALONE_WEIGHT = 0.05  # of telling a voice alone from everything else, beside some nats of the log-mel; ours


class CodecTrainingConfig(Config):
    """All lengths of the run are counts, so that the same files and settings give the same weights."""

    seed: int = 0
    corpus: CorpusConfig = CorpusConfig()
    codebook_size: int = Field(default=CODEBOOK_SIZE, ge=2, le=CODEBOOK_SIZE)  # smaller only to test the trainer
    codebook_points: int = 1_000_000  # code-long frames
    codebook_passes: int = 12  # Lloyd passes; 15 there
    decoder_steps: int = 1500  # ours: about 10 minutes on one core
    # codes that the decoder learns from are drawn among so many nearest ones: audio that the codebook wasn't made of
    # lies 1.6 to 2.2 x as far from its codes, squared, and the decoder shall not trust them more (weights/README.md)
    near_codes: int = Field(default=2, ge=1)
    batch_size: int = 16  # crops
    crop_codes: int = 64  # 2.56 s
    learning_rate: float = 1.2e-3  # AdamW
    constant_share: float = 0.65  # of the steps, then linear; same
    last_rate: float = 0.04  # of the learning rate; same
    checkpoint_every: int = 100  # steps
    device: str = "cpu"  # of codebook and decoder: "cuda" trains a library at full size
    licence: str = "unknown"  # of the weights, as the codec's spec and every dataset card will state it

    @classmethod
    def for_minutes(cls, minutes: float, **settings: object) -> Self:
        """A run of about that many minutes on one core of 2026, most of them for the decoder."""
        points = int(np.clip(40_000 * minutes, 50_000, 4_000_000))
        return cls.model_validate(
            {"codebook_points": points, "decoder_steps": max(50, round(100 * minutes))} | settings
        )


@dataclass(frozen=True, slots=True)
class TrainingReport:
    weights: Path
    weights_sha256: str
    audio_seconds: float
    clips: int
    voice_clips: int
    skipped: tuple[str, ...]
    codebook_error: tuple[float, ...]  # mean squared distance before each pass
    decoder_l1: tuple[float, ...]  # log-mel L1 in nats, mean of each tenth of the steps
    seconds: float  # of this call


def train(
    audio_files: Sequence[Path], out: Path, config: CodecTrainingConfig, progress: Progress | None = None
) -> TrainingReport:
    """Make a weights file for `embedded.load`; `ValueError` where the audio is too little to fill the codebook."""
    started = time.monotonic()
    report = progress or (lambda phase, done: None)
    parts = _Parts(out, config, audio_files)
    corpus = read(audio_files, config.corpus, config.seed, report, parts.corpus)
    codebook, errors = _fit_codebook(corpus, config, parts, report)
    decoder, losses = _fit_decoder(corpus, codebook, config, parts, report)
    save(out, codebook, decoder, {"licence": config.licence, "run": parts.fingerprint, "seed": str(config.seed)})
    parts.remove()
    voices = sum(clip.voice for clip in corpus.clips)
    return TrainingReport(
        weights=out,
        weights_sha256=load(out).spec.weights_sha256,
        audio_seconds=corpus.seconds,
        clips=len(corpus.clips),
        voice_clips=voices,
        skipped=corpus.skipped,
        codebook_error=errors,
        decoder_l1=tuple(float(np.mean(tenth)) for tenth in np.array_split(losses, 10) if tenth.size),
        seconds=time.monotonic() - started,
    )


class _Parts:
    """The folder of unfinished work of one run."""

    def __init__(self, out: Path, config: CodecTrainingConfig, files: Sequence[Path]) -> None:
        names = [f"{path}:{path.stat().st_size}" for path in files]
        text = json.dumps([config.model_dump(mode="json", exclude={"device"}), names])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = out.with_name(out.name + ".parts")
        self.codebook = self.folder / f"codebook-{self.fingerprint}.safetensors"
        self.decoder = self.folder / f"decoder-{self.fingerprint}.pt"
        self.corpus = self.folder / "corpus"
        self.corpus.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def _fit_codebook(
    corpus: Corpus, config: CodecTrainingConfig, parts: _Parts, progress: Progress
) -> tuple[Codebook, tuple[float, ...]]:
    if parts.codebook.exists():
        with safe_open(parts.codebook, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        codebook = Codebook(float(found["amplitude"]), found["mean"], found["components"], found["centres"])
        return codebook, tuple(found["errors"].tolist())
    codebook, errors = _k_means(corpus, config, progress)
    fixed = {"mean": codebook.mean, "components": codebook.components, "centres": codebook.centres}
    numbers = {"amplitude": torch.tensor(codebook.amplitude), "errors": torch.tensor(errors)}
    temporary = parts.codebook.with_suffix(".tmp")
    save_file(fixed | numbers, temporary)
    temporary.replace(parts.codebook)
    return codebook, errors


def _k_means(corpus: Corpus, config: CodecTrainingConfig, progress: Progress) -> tuple[Codebook, tuple[float, ...]]:
    """Everything is rounded as the file will hold it, before anything is built on it."""
    rng = np.random.default_rng([config.seed, 1])
    share = config.corpus.voice_share
    few = corpus.draw(min(config.codebook_points, 50_000), FRAMES_PER_CODE, share, rng).reshape(-1, BANDS)
    amplitude = books.equalising_amplitude(few)
    mean, components = (_rounded(part) for part in books.principal_components(books.features(few, amplitude)))
    book = Codebook(amplitude, mean, components, torch.empty(0))
    sizes = [min(8192, config.codebook_points - start) for start in range(0, config.codebook_points, 8192)]
    blocks = [book.points(corpus.draw(size, FRAMES_PER_CODE, share, rng).reshape(-1, BANDS)) for size in sizes]
    points = torch.cat(blocks).to(config.device)
    generator = torch.Generator().manual_seed(config.seed)
    centres = books.first_centres(points, config.codebook_size, generator)
    errors = []
    for index in range(config.codebook_passes):
        centres, error = books.k_means_step(points, centres, generator)
        errors.append(error)
        logger.info("codebook pass %d: mean squared distance %.3f", index + 1, error)
        progress("codebook", (index + 1) / config.codebook_passes)
    stretched = _rounded(components * books.STRETCH)  # after k-means: the points of training stay where they are
    return Codebook(amplitude, mean, stretched, _rounded(centres.cpu())), tuple(errors)


def _fit_decoder(
    corpus: Corpus, codebook: Codebook, config: CodecTrainingConfig, parts: _Parts, progress: Progress
) -> tuple[Decoder, list[float]]:
    torch.manual_seed(config.seed)
    decoder = Decoder(codebook.centres).to(config.device)
    near = codebook.to(config.device)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=config.learning_rate, betas=(0.8, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    losses: list[float] = []
    if parts.decoder.exists():
        state = torch.load(parts.decoder, weights_only=True, map_location=config.device)
        decoder.load_state_dict(state["decoder"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        losses = state["losses"]
    else:
        rows = corpus.draw(20_000, FRAMES_PER_CODE, config.corpus.voice_share, np.random.default_rng([config.seed, 2]))
        codes = codebook.codes(rows.reshape(-1, BANDS))
        decoder.fit_linear(codebook.centres[codes].to(config.device), code_rows(rows).to(config.device))
    for step in range(len(losses), config.decoder_steps):
        losses.append(_step(decoder, optimizer, corpus, near, config, step))
        schedule.step()
        progress("decoder", (step + 1) / config.decoder_steps)
        if (step + 1) % config.checkpoint_every == 0:
            logger.info("decoder step %d: log-mel L1 %.4f", step + 1, np.mean(losses[-config.checkpoint_every :]))
            state = {"decoder": decoder.state_dict(), "optimizer": optimizer.state_dict()}
            rest = {"schedule": schedule.state_dict(), "losses": losses}
            torch.save(state | rest, parts.decoder.with_suffix(".tmp"))
            parts.decoder.with_suffix(".tmp").replace(parts.decoder)
    return decoder.cpu(), losses


def _step(
    decoder: Decoder,
    optimizer: torch.optim.Optimizer,
    corpus: Corpus,
    codebook: Codebook,
    config: CodecTrainingConfig,
    step: int,
) -> float:
    rng = np.random.default_rng([config.seed, 3, step])
    frames = FRAMES_PER_CODE * config.crop_codes
    target = corpus.draw(config.batch_size, frames, config.corpus.voice_share, rng).to(config.device)
    near = books.nearest_few(codebook.points(target.reshape(-1, BANDS)), codebook.centres, config.near_codes)
    choice = torch.from_numpy(rng.integers(near.shape[1], size=(len(near), 1))).to(config.device)
    codes = near.gather(1, choice).reshape(config.batch_size, config.crop_codes)
    output, alone = decoder(codes)
    loss, l1 = losses_of(output, target)
    voices = corpus.voices_of(config.batch_size, config.corpus.voice_share)
    is_voice = (torch.arange(config.batch_size, device=config.device) < voices).float()[:, None]
    loss = loss + ALONE_WEIGHT * F.binary_cross_entropy_with_logits(alone, is_voice.expand_as(alone))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
    optimizer.step()
    return float(l1)


def losses_of(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The training loss (L1 + half that of the frame difference + 3 x the error of mel^0.5 + a quarter of the error of
    each frame's level + half that of the harmonics + a quarter of the error of the tone) and its L1, nats.

    The third and fourth keep the level, which L1 alone lowers to the median; the weight of the third moves no other
    figure.
    """
    l1 = F.l1_loss(output, target)
    change = F.l1_loss(output.diff(dim=1), target.diff(dim=1))
    peaks = F.mse_loss((0.5 * output).exp(), (0.5 * target).exp())
    level = F.l1_loss(_level(output), _level(target))
    fine = books.fine_structure()[:, : books.SHARP_BANDS].to(output.device)
    sharp = F.l1_loss(output @ fine, target @ fine)
    tones = (tone(output) - tone(target)).square().sum(dim=-1).mean()
    return l1 + 0.5 * change + 3.0 * peaks + 0.25 * level + 0.5 * sharp + 0.25 * tones, l1.detach()


def _level(log_mels: Tensor) -> Tensor:
    """Half the logarithm of each frame's energy, nats."""
    return torch.logsumexp(2 * log_mels, dim=-1) / 2


def _rate(step: int, config: CodecTrainingConfig) -> float:
    start = config.constant_share * config.decoder_steps
    done = max(0.0, step - start) / max(1.0, config.decoder_steps - start)
    return 1 - (1 - config.last_rate) * min(1.0, done)


def _rounded(tensor: Tensor) -> Tensor:
    return tensor.half().float()
