"""What the stages kept of a track -> the samples of the shard contract."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from flows.stages.context import Context, Rows, artefact, value_of
from flows.stages.graph import NODES, lineage
from flows.stages.stems import AugmentedFacts
from flows.stages.tokens import LATENT, TokenFacts
from pipeline.annotation.stage import Annotation
from pipeline.codec.codec import token_count
from pipeline.detection.stage import Detection
from pipeline.quality.stage import Quality
from pipeline.records.catalog import CatalogRow
from pipeline.records.schema import BackendRecord, Sample, SampleInfo, SectionRecord, plain
from pipeline.records.store import Artefact, Store
from pipeline.selection import Verdict
from pipeline.structure.stage import Structure
from pipeline.types import Span

TOKEN_STAGES = ("tokenization", "tokenization-copies")


@dataclass(frozen=True, slots=True)
class Draft:
    """A sample whose arrays still lie in their store."""

    info: SampleInfo
    store: Store
    tokens: Artefact

    @property
    def identity(self) -> str:
        """Equal for drafts that become the same sample."""
        return f"{json.dumps(plain(self.info), sort_keys=True)} {self.tokens.sha256}"

    def sample(self) -> Sample:
        """The whole sample; `DamageError` where its arrays are not the recorded ones."""
        arrays = self.store.get_arrays(self.tokens)
        return Sample(
            info=self.info,
            vocal=arrays["vocal"],
            accompaniment=arrays["accompaniment"],
            reference=arrays["reference"],
            text=arrays["text"],
            latents={n.removeprefix(LATENT): array for n, array in arrays.items() if n.startswith(LATENT)},
        ).validate()


def drafts_of(context: Context, track: CatalogRow, split: str, rows: Rows) -> Iterator[Draft]:
    """The song itself and, where there is one, its augmented copy."""
    for stage in TOKEN_STAGES:
        if stage in rows and rows[stage].status == "ok":
            info = _info(track, split, rows, stage)
            yield Draft(info, context.store(stage), artefact(rows[stage], "tokens"))


def _info(track: CatalogRow, split: str, rows: Rows, stage: str) -> SampleInfo:
    tokens, verdict = value_of(rows, stage, TokenFacts), value_of(rows, "selection", Verdict)
    quality, annotation = value_of(rows, "quality", Quality), value_of(rows, "annotation", Annotation)
    structure, captions, active = _timed_facts(rows, stage)
    return SampleInfo(
        key=f"{track.track_id}-{tokens.name.replace('.', '_')}",
        track_id=track.track_id,
        uri=track.uris[0],
        licence=track.licence,
        artist=track.artist,
        split=split,
        selection="stage2" if verdict.stage == "stage2" else "stage1",
        selection_reasons=verdict.reasons,
        scores={**quality.scores, "mean": quality.mean},
        sections=tuple(SectionRecord(s.start, s.end, s.label) for s in structure.sections),
        beats=structure.beats,
        downbeats=structure.downbeats,
        tempo=structure.tempo,
        music_key=structure.key,
        vocal_active=tuple((span.start, span.end) for span in active),
        captions=captions,
        lyrics=annotation.lyrics,
        samples_48k=tokens.samples_48k,
        tokens=token_count(tokens.samples_48k),
        augmentation=tokens.name,
        vocal_gain_db=tokens.vocal_gain_db,
        accompaniment_variants=tokens.accompaniment_variants,
        reference_variants=tokens.reference_variants,
        reference_spans=tokens.reference_spans,
        codec=tokens.codec,
        backends=backends_of(rows, stage),
    )


def _timed_facts(rows: Rows, stage: str) -> tuple[Structure, tuple[str, ...], tuple[Span, ...]]:
    """Structure, captions and singing spans, in the sample's own time."""
    if stage == "tokenization-copies":
        copy = value_of(rows, "augmentation", AugmentedFacts)
        return copy.structure, copy.captions, copy.vocal_active
    captions = value_of(rows, "annotation", Annotation).captions
    return value_of(rows, "structure", Structure), captions, value_of(rows, "detection", Detection).vocal_active


def backends_of(rows: Rows, stage: str) -> tuple[BackendRecord, ...]:
    """Who made the sample of this token stage, and who judged it; the conditioner counts as a stage of its own."""
    made = lineage(stage, "selection")
    kept = [(name, rows[name]) for name in NODES if name in made and name in rows and rows[name].status == "ok"]
    found = [BackendRecord(name, row.backend, row.weights_sha256, row.licence) for name, row in kept]
    tokens = value_of(rows, stage, TokenFacts)
    found.append(
        BackendRecord("conditioning", tokens.conditioner, tokens.conditioner_weights_sha256, tokens.conditioner_licence)
    )
    return tuple(found)
