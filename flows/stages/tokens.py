"""Workers of the last stages: selection, and tokenization of songs and of their augmented copies."""

from collections.abc import Sequence
from dataclasses import dataclass

from flows.stages.context import Context, Made, Rows, Source, value_of
from flows.stages.stems import AugmentedFacts, kept_stems
from pipeline.annotation.stage import Annotation
from pipeline.codec.codec import build as build_codec
from pipeline.conditioning.conditioner import build as build_conditioner
from pipeline.detection.stage import Detection
from pipeline.quality.stage import Quality
from pipeline.records.catalog import CatalogRow
from pipeline.records.groups import read_groups
from pipeline.records.schema import CodecRecord, VariantRecord
from pipeline.selection import Verdict, passes_gate, select
from pipeline.separation.artifacts import Artifacts
from pipeline.structure.stage import Structure
from pipeline.tokenization import Song, Tokens, slice_agreements, tokenize_all

LATENT = "latent."  # begins the names of latents in the artefact ``tokens``
CROP_TOKENS, CROPS = 256, 2  # of each song, encoded apart to see how far slices of its codes agree; ours


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What the record says of a tokenized song; the arrays lie in the artefact ``tokens``."""

    name: str  # orig, or the augmentation
    samples_48k: int
    slice_agreement: float  # share of codes that slices have in common with encoded crops; NaN for a short song
    vocal_gain_db: float
    accompaniment_variants: tuple[VariantRecord, ...]
    reference_variants: tuple[VariantRecord, ...]
    reference_spans: tuple[tuple[float, float], ...]
    codec: CodecRecord
    codec_name: str
    conditioner: str
    conditioner_weights_sha256: str
    conditioner_licence: str


class SelectionWorker:
    """The gate and the rules of stage 2: stage 1, stage 2, review or rejected, with reasons."""

    def __init__(self, context: Context) -> None:
        self.context, self.config = context, context.recipe.selection

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        quality = value_of(rows, "quality", Quality)
        if left_out := self.context.left_out(track):
            verdict = Verdict("rejected", (left_out,))
        elif self.config.gate.scope == "all" and not passes_gate(self.config.gate, quality):
            verdict = Verdict(
                "rejected", (f"gate_{self.config.gate.rule}",)
            )  # such a song has no stems or sections to judge
        else:
            verdict = select(
                self.config,
                value_of(rows, "detection", Detection),
                quality,
                value_of(rows, "artifacts", Artifacts),
                value_of(rows, "structure", Structure),
            )
        reasons = "; ".join([*verdict.reasons, *self.kin(track)])
        dropped = {"rejected": verdict.reasons[:1], "review": ("review",)}.get(verdict.stage, ())
        return Made(verdict, Source("rules", licence="Apache-2.0"), "".join(dropped), reasons)

    def kin(self, track: CatalogRow) -> list[str]:
        """That the song is another file of a recording, for people."""
        member = read_groups(self.context.root).members.get(track.track_id)
        if member is None or not member.follows:
            return []
        told = f"the recording of track {member.leader}: {member.errors:.1%} of bits differ over {member.seconds:.0f} s"
        return [f"{told}; its split is {member.split}"]


class TokenizationWorker:
    """Stems -> codes and prefix vectors; loudness and frequency balance act here, on audio in memory."""

    source, stage = "separation", "tokenization"

    def __init__(self, context: Context) -> None:
        self.context = context
        self.codec = build_codec(context.recipe.codec)
        self.conditioner = build_conditioner(context.recipe.conditioning)

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        return self.together([self.prepare(track, rows)])[0]

    def prepare(self, track: CatalogRow, rows: Rows) -> tuple[str, str, Song]:
        """Its id, the sample's name, and what is tokenized of it."""
        name, captions = self.subject(rows)
        stems = kept_stems(self.context, rows[self.source], self.source)
        training = self.context.split(track) == "train"
        return track.track_id, name, Song(stems, captions, f"{track.track_id}-{name}", training)

    def subject(self, rows: Rows) -> tuple[str, tuple[str, ...]]:
        """The sample's name and captions."""
        return "orig", value_of(rows, "annotation", Annotation).captions

    def together(self, prepared: Sequence[tuple[str, str, Song]]) -> list[Made]:
        recipe, songs = self.context.recipe, [song for _, _, song in prepared]
        balance = recipe.augmentation.balance
        tokens = tokenize_all(recipe.tokenization, balance, self.codec, self.conditioner, songs, recipe.seed)
        sounds = [song.stems.accompaniment for song in songs]
        agreements = slice_agreements(self.codec, sounds, CROP_TOKENS, CROPS, recipe.seed)
        return [
            self.made(track_id, name, told, agreement)
            for (track_id, name, _), told, agreement in zip(prepared, tokens, agreements, strict=True)
        ]

    def made(self, track_id: str, name: str, tokens: Tokens, agreement: float) -> Made:
        arrays = {n: getattr(tokens, n) for n in ("vocal", "accompaniment", "reference", "text")}
        arrays |= {f"{LATENT}{name}": latent for name, latent in tokens.latents.items()}
        kept = self.context.store(self.stage).put_arrays(track_id, "tokens", arrays)
        codec, conditioner = self.codec.spec, self.conditioner.spec
        facts = TokenFacts(
            name=name,
            samples_48k=tokens.samples_48k,
            slice_agreement=agreement,
            vocal_gain_db=tokens.vocal_gain_db,
            accompaniment_variants=tokens.accompaniment_variants,
            reference_variants=tokens.reference_variants,
            reference_spans=tokens.reference_spans,
            codec=CodecRecord(codec.window_tokens, codec.hop_samples, codec.phases, codec.context_frames),
            codec_name=codec.name,
            conditioner=conditioner.name,
            conditioner_weights_sha256=conditioner.weights_sha256,
            conditioner_licence=conditioner.licence,
        )
        return Made(facts, Source(codec.name, codec.weights_sha256, codec.licence), artefacts=(kept,))


class CopyTokenizationWorker(TokenizationWorker):
    """The same for the augmented copy of a song."""

    source, stage = "augmentation", "tokenization-copies"

    def subject(self, rows: Rows) -> tuple[str, tuple[str, ...]]:
        facts = value_of(rows, "augmentation", AugmentedFacts)
        return facts.name, facts.captions
