"""What the stages of a build say of one song, written by hand."""

from pipeline.annotation.stage import Annotation
from pipeline.detection.stage import Detection
from pipeline.quality.stage import Quality
from pipeline.records.catalog import CatalogRow
from pipeline.records.ledger import Row, Status
from pipeline.records.schema import CodecRecord, VariantRecord
from pipeline.records.store import Artefact
from pipeline.records.values import dump
from pipeline.selection import Verdict
from pipeline.separation.artifacts import Artifacts
from pipeline.structure.stage import Structure
from pipeline.types import Section, Span

TRACK = "ab" * 16
QUIET = 2.0  # mean score of a song that low gates let through
SAMPLES = 48_000  # of the song, at 48 kHz


def loud_song(track_id: str = TRACK, split: str = "train") -> CatalogRow:
    return CatalogRow(
        track_id=track_id, uris=("a.flac",), sha256=track_id * 2, bytes=1, duration=1.0, sample_rate=48_000, channels=2,
        split=split, artist="", text="", licence="CC0-1.0", vocal_uri="", accompaniment_uri="", error="",
    )  # fmt: skip


def song_rows(
    mean: float, tokens: Artefact | None = None, stage: str = "stage2", track_id: str = TRACK, **ends: Status
) -> dict[str, Row]:
    """A row of every stage but those of copies; `ends` says which are not ok."""
    from flows.stages.tokens import TokenFacts

    clean = (VariantRecord((), 0.0),)
    results = {
        "fingerprint": None,
        "detection": Detection("song", 0.5, 0.0, 1.0, "", (Span(0.0, 1.0),)),
        "quality": Quality({"level": mean}, mean),
        "separation": None,
        "artifacts": Artifacts(-60.0, -60.0, -120.0, 0.0, 0.0, ()),
        "structure": Structure((Section(0.0, 1.0, "verse"),), (0.5,), (0.5,), 120.0, "C major"),
        "annotation": Annotation(("calm",), (), ""),
        "selection": Verdict(stage, ()),  # type: ignore[arg-type]
        "tokenization": TokenFacts(
            "orig", SAMPLES, 1.0, 0.0, clean, clean, ((0.0, 1.0),), CodecRecord(0, 0, 1, 0), "toy", "toy", "", "ours"
        ),
    }
    artefacts = {"tokenization": (tokens,) if tokens else ()}
    return {
        name: Row(
            track_id, ends.get(name, "ok"), values=dump(value) if value else "", artefacts=artefacts.get(name, ()),
            backend=f"{name}-toy",
        )
        for name, value in results.items()
    }  # fmt: skip
