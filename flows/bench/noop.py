"""Stand-ins for every stage's worker that cost next to nothing: a *rehearsal* of a build.

A build uses them where, and only where, its recipe has the section ``rehearsal`` (`flows.rehearsal`); all of these work
with every engine, in every process, through the run form and through a deployment:

    backline build --library tiny --root runs/rehearsal --set 'rehearsal={}'
    BuildParameters(recipe="demo", library=..., root=..., overrides=["rehearsal={}"])
    --set 'rehearsal={sleep: 0.05, faults: {die: ["separation:ab12"], fail: ["*:cd34"]}, once: runs/marks}'

`flows.bench.tiny.write_library` makes a library of tiny real files, `synthetic_rows` there catalogue rows without any.
Conventions: values, codes and artefacts follow from the track id and ``rehearsal.results`` alone; selection is the real
one. A few songs are rejected (detection), quarantined (annotation), kept out of stage 2 (quality) or out of training
(artifacts), chosen by hash.
"""

import hashlib
import os
import signal
import time
from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path

import numpy as np

from flows.rehearsal import Fault, Rehearsal
from flows.stages import tokens as real
from flows.stages.context import Context, Made, Rows, Source
from flows.stages.listening import FingerprintFacts
from flows.stages.stems import AugmentedFacts, SeparationFacts
from flows.stages.tokens import TokenFacts
from pipeline.annotation.stage import Annotation
from pipeline.augmentation import plan
from pipeline.codec.codec import SAMPLE_RATE, token_count
from pipeline.detection.stage import Detection
from pipeline.errors import BackendUnavailable, BadInput
from pipeline.quality.stage import Quality
from pipeline.records.catalog import CatalogRow
from pipeline.records.schema import CODEBOOK_SIZE, CodecRecord, FilterRecord, VariantRecord
from pipeline.records.store import Artefact
from pipeline.separation.artifacts import Artifacts
from pipeline.structure.stage import Structure
from pipeline.types import Audio, Section, Span

NOBODY = Source("no-op", licence="Apache-2.0")
LOW = 2.0  # mean score of a song that stays in stage 1
BALANCED = VariantRecord((FilterRecord("bass", 3.0, 120.0, 0.7),), -1.0)
CLEAN = VariantRecord((), 0.0)


def share(seed: int, salt: str, track_id: str) -> float:
    """A song's place in [0, 1), another one for every salt; 53 bits of a hash."""
    digest = hashlib.sha256(f"rehearsal\n{seed}\n{salt}\n{track_id}".encode()).digest()
    return (int.from_bytes(digest[:8]) >> 11) / 2**53


class NoopWorker(ABC):
    """One stage that costs nothing; `BackendUnavailable` outside a rehearsal."""

    stage = ""
    listens = True  # to the song's file

    def __init__(self, context: Context) -> None:
        if context.recipe.rehearsal is None:
            raise BackendUnavailable("stand-ins work in a rehearsal alone: give the recipe a section `rehearsal`")
        self.context = context
        self.settings: Rehearsal = context.recipe.rehearsal
        self.seconds = self.settings.results.seconds
        self.samples = round(self.seconds * SAMPLE_RATE)

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        for fault in self.settings.struck(self.stage, track.track_id):
            strike(self.settings, fault, self.stage, track.track_id)
        if self.settings.sleep:
            time.sleep(self.settings.sleep)
        if self.settings.read_audio and self.listens:
            self.context.audio(track)
        return self.make(track, rows)

    @abstractmethod
    def make(self, track: CatalogRow, rows: Rows) -> Made:
        """What the stage says of the song."""

    def share(self, salt: str, track: CatalogRow) -> float:
        return share(self.settings.results.seed, salt, track.track_id)

    def shape(self) -> Structure:
        """Verse and chorus, the same for every song: the keys of a stage must not depend on how songs are made."""
        half = self.seconds / 2
        sections = (Section(0.0, half, "verse"), Section(half, self.seconds, "chorus"))
        beats = tuple(round(0.5 * beat, 3) for beat in range(int(self.seconds / 0.5)))
        return Structure(sections, beats, beats[::4], 120.0, "C major")


def strike(settings: Rehearsal, fault: Fault, stage: str, track_id: str) -> None:
    """Let a fault happen, unless it did before and `once` is set."""
    if settings.once:
        try:
            (Path(settings.once) / f"{fault}-{stage}-{track_id}").touch(exist_ok=False)
        except FileExistsError:
            return
    match fault:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            while True:
                time.sleep(1)
        case "bad":
            raise BadInput("the rehearsal asked for it", reason="rehearsed")
        case "unavailable":
            raise BackendUnavailable("the rehearsal asked for it")
        case "fail":
            raise RuntimeError("the rehearsal asked for it")


class FingerprintWorker(NoopWorker):
    """Keeps no words: every song is alone."""

    stage = "fingerprint"

    def make(self, track: CatalogRow, rows: Rows) -> Made:
        return Made(FingerprintFacts(0, 1.0), NOBODY)


class DetectionWorker(NoopWorker):
    stage = "detection"

    def make(self, track: CatalogRow, rows: Rows) -> Made:
        speech = self.share("speech", track) < self.settings.results.rejected
        singing = (Span(0.0, self.seconds),)
        song = Detection("song", 0.6, 0.0, 1.0, "by hash", singing)
        found = Detection("speech", 0.0, 0.9, 0.0, "by hash", singing) if speech else song
        return Made(found, NOBODY, "" if found.keep else found.kind, found.reason)


class QualityWorker(NoopWorker):
    stage = "quality"

    def make(self, track: CatalogRow, rows: Rows) -> Made:
        mean = LOW if self.share("quality", track) < 0.5 else 4.0
        return Made(Quality({"level": mean}, mean), NOBODY)


class SeparationWorker(NoopWorker):
    stage = "separation"

    def make(self, track: CatalogRow, rows: Rows) -> Made:
        return Made(SeparationFacts(self.samples, true_stems=False), NOBODY, artefacts=stems(self, track))


class ArtifactWorker(NoopWorker):
    stage = "artifacts"

    def make(self, track: CatalogRow, rows: Rows) -> Made:
        silent = 1.0 if self.share("silent", track) < 0.02 else 0.0
        return Made(Artifacts(-60.0, -60.0, -120.0, silent, 0.0, ()), NOBODY)


class StructureWorker(NoopWorker):
    stage = "structure"

    def make(self, track: CatalogRow, rows: Rows) -> Made:
        return Made(self.shape(), NOBODY)


class AnnotationWorker(NoopWorker):
    stage = "annotation"

    def make(self, track: CatalogRow, rows: Rows) -> Made:
        if self.share("words", track) < self.settings.results.quarantined:
            raise BadInput("quarantined by hash, as rehearsal.results.quarantined asks", reason="rehearsed")
        return Made(Annotation((f"song {track.track_id[:8]}",), ("calm",), ""), NOBODY)


class SelectionWorker(NoopWorker):
    """The real one: rules on numbers."""

    stage, listens = "selection", False

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.real = real.SelectionWorker(context)

    def make(self, track: CatalogRow, rows: Rows) -> Made:
        return self.real(track, rows)


class AugmentationWorker(NoopWorker):
    stage, listens = "augmentation", False

    def make(self, track: CatalogRow, rows: Rows) -> Made:
        name = plan(self.context.recipe.augmentation.copies, self.context.recipe.seed, track.track_id)
        facts = AugmentedFacts(name, self.samples, self.shape(), (f"copy {track.track_id[:8]}",), ())
        return Made(facts, NOBODY, artefacts=stems(self, track))


class TokenizationWorker(NoopWorker):
    stage, listens = "tokenization", False

    def make(self, track: CatalogRow, rows: Rows) -> Made:
        return tokens(self, track, "orig")


class CopyTokenizationWorker(NoopWorker):
    stage, listens = "tokenization-copies", False

    def make(self, track: CatalogRow, rows: Rows) -> Made:
        recipe = self.context.recipe
        return tokens(self, track, plan(recipe.augmentation.copies, recipe.seed, track.track_id))


def stems(worker: NoopWorker, track: CatalogRow) -> tuple[Artefact, ...]:
    """Two stems of 10 ms."""
    store, level = worker.context.store(worker.stage), np.float32(0.5 * worker.share(worker.stage, track))
    sounds = {"vocal": level, "accompaniment": np.float32(0.5) - level}
    return tuple(
        store.put_audio(track.track_id, name, Audio(np.full((2, 480), value, np.float32), SAMPLE_RATE))
        for name, value in sounds.items()
    )


def tokens(worker: NoopWorker, track: CatalogRow, name: str) -> Made:
    """Codes and prefix vectors drawn from the track id, of the shapes that the recipe asks for."""
    recipe, count = worker.context.recipe, token_count(worker.samples)
    variants = (CLEAN, *[BALANCED] * (recipe.tokenization.variants if worker.context.split(track) == "train" else 0))
    rng = np.random.default_rng(int(track.track_id, 16) ^ worker.settings.results.seed ^ len(name))
    arrays = {
        "vocal": rng.integers(0, CODEBOOK_SIZE, (1, count), np.uint16),
        "accompaniment": rng.integers(0, CODEBOOK_SIZE, (len(variants), 1, count), np.uint16),
        "reference": np.broadcast_to(vector(recipe.model.prefix_width), (len(variants), 1, recipe.model.prefix_width)),
        "text": vector(recipe.model.prefix_width)[None],
    }
    kept = worker.context.store(worker.stage).put_arrays(track.track_id, "tokens", arrays)
    facts = TokenFacts(
        name=name,
        samples_48k=worker.samples,
        slice_agreement=1.0,
        vocal_gain_db=0.0,
        accompaniment_variants=variants,
        reference_variants=variants,
        reference_spans=((0.0, worker.seconds),),
        codec=CodecRecord(0, 0, 1, 0),
        codec_name=NOBODY.backend,
        conditioner=NOBODY.backend,
        conditioner_weights_sha256="",
        conditioner_licence=NOBODY.licence,
    )
    return Made(facts, NOBODY, artefacts=(kept,))


@lru_cache(maxsize=4)
def vector(width: int) -> "np.ndarray[tuple[int], np.dtype[np.float16]]":
    """A unit vector, the same for every song."""
    return np.full(width, width**-0.5, np.float16)
