"""Workers of the stages that make or judge stems: separation, artifact check, augmentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from flows.stages.context import Context, Made, Rows, Source, value_of
from flows.stages.hearing import hear_stem
from pipeline.annotation.stage import Annotation
from pipeline.audio import as_stereo, resample
from pipeline.augmentation import Augmented, augment, plan
from pipeline.codec.codec import SAMPLE_RATE
from pipeline.detection.stage import Detection
from pipeline.errors import BadInput
from pipeline.phases import phase
from pipeline.records.catalog import CatalogRow
from pipeline.records.ledger import Row
from pipeline.records.store import Artefact
from pipeline.separation.artifacts import ArtifactCheck
from pipeline.separation.stage import Stems, separate
from pipeline.separation.stage import build as build_separator
from pipeline.structure.stage import Structure
from pipeline.types import Audio, Span


@dataclass(frozen=True, slots=True)
class SeparationFacts:
    """What the record says of a pair of stems."""

    samples_48k: int
    true_stems: bool  # given by the manifest, not separated


@dataclass(frozen=True, slots=True)
class AugmentedFacts:
    """What the record says of a stretched or pitched copy; all times are the copy's."""

    name: str
    samples_48k: int
    structure: Structure
    captions: tuple[str, ...]
    vocal_active: tuple[Span, ...]

    @classmethod
    def of(cls, name: str, copy: Augmented) -> Self:
        return cls(name, copy.stems.vocal.length, copy.structure, copy.captions, copy.vocal_active)


class SeparationWorker:
    """Mixture -> vocal and accompaniment, or the true stems that the manifest gives."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.separator = build_separator(context.recipe.separation)

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        return self.together([self.prepare(track, rows)])[0]

    def prepare(self, track: CatalogRow, rows: Rows) -> tuple[CatalogRow, Audio | Stems]:
        """The song, with its true stems where the manifest gives them."""
        given = bool(track.vocal_uri and track.accompaniment_uri)
        return track, self.true_stems(track) if given else self.context.audio(track)

    def together(self, prepared: Sequence[tuple[CatalogRow, Audio | Stems]]) -> list[Made]:
        separated = iter(separate(self.separator, [heard for _, heard in prepared if isinstance(heard, Audio)]))
        return [
            self.given(track, heard) if isinstance(heard, Stems) else self.made(track, next(separated))
            for track, heard in prepared
        ]

    def made(self, track: CatalogRow, stems: Stems) -> Made:
        facts = SeparationFacts(samples_48k=stems.vocal.length, true_stems=False)
        return Made(facts, Source.of(self.separator), artefacts=self.keep(track, stems))

    def given(self, track: CatalogRow, stems: Stems) -> Made:
        facts, told = SeparationFacts(stems.vocal.length, true_stems=True), "true stems given: separation skipped"
        return Made(facts, Source("true-stems", licence=track.licence), "", told, self.keep(track, stems))

    def keep(self, track: CatalogRow, stems: Stems) -> tuple[Artefact, ...]:
        store = self.context.store("separation")
        named = (("vocal", stems.vocal), ("accompaniment", stems.accompaniment))
        return tuple(store.put_audio(track.track_id, name, audio) for name, audio in named)

    def true_stems(self, track: CatalogRow) -> Stems:
        limits = self.context.recipe.library.decode
        with phase("decode"):
            read = [hear_stem(uri, limits) for uri in (track.vocal_uri, track.accompaniment_uri)]
        vocal, accompaniment = (as_stereo(resample(audio, SAMPLE_RATE)) for audio in read)
        if vocal.length != accompaniment.length:
            raise BadInput(
                f"true stems differ in length: vocal {vocal.length}, accompaniment {accompaniment.length} samples at "
                "48 kHz; give stems cut from one session",
                reason="stem_lengths",
            )
        return Stems(vocal, accompaniment)


class ArtifactWorker:
    """What separation left in the wrong stem. Measures and gives reasons; selection decides."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.check = ArtifactCheck(context.recipe.artifacts)

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        stems = kept_stems(self.context, rows["separation"])
        mixture = as_stereo(resample(self.context.audio(track), SAMPLE_RATE))
        return Made(self.check(mixture, stems), Source.of(self.check))


class AugmentationWorker:
    """One stretched or pitched copy of a song that stage 2 selected (paper A.2)."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        recipe = self.context.recipe
        name = plan(recipe.augmentation.copies, recipe.seed, track.track_id)
        copy = augment(
            kept_stems(self.context, rows["separation"]),
            value_of(rows, "structure", Structure),
            value_of(rows, "annotation", Annotation).captions,
            value_of(rows, "detection", Detection).vocal_active,
            name,
        )
        store = self.context.store("augmentation")
        kept = tuple(
            store.put_audio(track.track_id, stem, audio)
            for stem, audio in (("vocal", copy.stems.vocal), ("accompaniment", copy.stems.accompaniment))
        )
        return Made(AugmentedFacts.of(name, copy), Source("signalsmith", licence="MIT"), artefacts=kept)


def kept_stems(context: Context, row: Row, stage: str = "separation") -> Stems:
    """The stems that a stage kept for a track."""
    return Stems(context.kept_audio(stage, row, "vocal"), context.kept_audio(stage, row, "accompaniment"))
