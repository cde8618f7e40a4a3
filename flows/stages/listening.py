"""Workers of the stages that listen to a whole song: fingerprint, detection, quality, structure, annotation.

Each decodes the song for itself: a song's stages lie a batch apart, and whoever kept its audio in between would keep
256 songs. All decoding together, up to seven times a song, was 3.1 % of the seconds that the demo's build of 28 songs
took (``backline demo``, then the phases in ``backline status runs/demo/build --json``): hearing a song once for all of
its stages could save 2.6 %, and one process would have to hold all their models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flows.stages.context import Context, Made, Rows, Source, value_of
from pipeline.annotation.stage import annotate
from pipeline.annotation.stage import build as build_annotator
from pipeline.detection.stage import Detection
from pipeline.detection.stage import build as build_detector
from pipeline.fingerprint import fingerprint
from pipeline.quality.stage import build as build_rater
from pipeline.quality.stage import rate
from pipeline.records.catalog import CatalogRow
from pipeline.structure.stage import analyse
from pipeline.structure.stage import build as build_structure
from pipeline.types import Audio, Span


@dataclass(frozen=True, slots=True)
class FingerprintFacts:
    """What the record says of a fingerprint; the words lie in the artefact ``words``."""

    words: int
    silent: float  # share of words without sound, 0..1


class FingerprintWorker:
    """The words by which other files of the same recording are found."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        words = fingerprint(self.context.audio(track))
        kept = self.context.store("fingerprint").put_arrays(track.track_id, "words", {"words": words})
        facts = FingerprintFacts(len(words), float(np.mean(words == 0)) if len(words) else 1.0)
        return Made(facts, Source("band-steps", licence="Apache-2.0"), artefacts=(kept,))


class DetectionWorker:
    """Song, speech or neither; only songs go on (paper A.2)."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.detector = build_detector(context.recipe.detection)

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        found = self.detector(self.context.audio(track))
        rejected = "" if found.keep else found.kind
        return Made(found, Source.of(self.detector), rejected, found.reason)


class QualityWorker:
    """Five scores from 1 to 5. Measures only: the gate belongs to selection."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.rater = build_rater(context.recipe.quality)

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        return self.together([self.prepare(track, rows)])[0]

    def prepare(self, track: CatalogRow, rows: Rows) -> Audio:
        return self.context.audio(track)

    def together(self, prepared: Sequence[Audio]) -> list[Made]:
        return [Made(rated, Source.of(self.rater)) for rated in rate(self.rater, prepared)]


class StructureWorker:
    """Sections, beats, tempo and key of the song."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.extractor = build_structure(context.recipe.structure)

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        return self.together([self.prepare(track, rows)])[0]

    def prepare(self, track: CatalogRow, rows: Rows) -> tuple[Audio, Sequence[Span] | None]:
        return self.context.audio(track), value_of(rows, "detection", Detection).vocal_active

    def together(self, prepared: Sequence[tuple[Audio, Sequence[Span] | None]]) -> list[Made]:
        return [Made(found, Source.of(self.extractor)) for found in analyse(self.extractor, prepared)]


class AnnotationWorker:
    """Captions and tags; a text that the manifest gives comes first."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.annotator = build_annotator(context.recipe.annotation)

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        return self.together([self.prepare(track, rows)])[0]

    def prepare(self, track: CatalogRow, rows: Rows) -> tuple[Audio, str]:
        return self.context.audio(track), track.text

    def together(self, prepared: Sequence[tuple[Audio, str]]) -> list[Made]:
        return [Made(told, Source.of(self.annotator)) for told in annotate(self.annotator, prepared)]
