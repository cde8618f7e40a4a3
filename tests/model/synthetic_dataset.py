"""Songs of given codes, and dataset folders that hold them, for tests of training."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.records.schema import SCHEMA_VERSION, BackendRecord, CodecRecord, Sample, SampleInfo, VariantRecord

WITHOUT_WINDOWS = CodecRecord(window_tokens=0, hop_samples=0, phases=1, context_frames=1)
CLEAN = VariantRecord(filters=(), gain_db=0.0)


def song(
    key: str,
    tokens: int,
    seed: int = 0,
    codec: CodecRecord = WITHOUT_WINDOWS,
    variants: int = 0,
    width: int = 8,
    spans: Sequence[tuple[float, float]] | None = None,
    codes: int = 16_384,
    split: str = "train",
) -> Sample:
    """Random codes below `codes`; reference windows of 5 s every 2.5 s unless `spans` are given."""
    rng = np.random.default_rng(seed)
    samples_48k = (tokens - 1) * 1920
    seconds = samples_48k / 48_000
    windows = [(s, s + 5.0) for s in np.arange(0, max(0.0, seconds - 5.0), 2.5)] if spans is None else list(spans)
    variants_48k = (CLEAN,) * (1 + variants)
    info = SampleInfo(
        key=key, track_id=key, uri=f"{key}.wav", licence="CC0", artist="", split=split, selection="stage1",
        selection_reasons=(), scores={"mean": 4.0}, sections=(), beats=(), downbeats=(), tempo=120.0,
        music_key="C major", vocal_active=(), captions=("one", "two"), lyrics="", samples_48k=samples_48k,
        tokens=tokens, augmentation="orig", vocal_gain_db=0.0, accompaniment_variants=variants_48k,
        reference_variants=variants_48k,
        reference_spans=tuple((float(a), float(b)) for a, b in windows), codec=codec,
        backends=(BackendRecord("codec", "toy", "c0dec", "CC0"), BackendRecord("conditioning", "toy", "c04d", "CC0")),
    )  # fmt: skip
    return Sample(
        info=info,
        vocal=rng.integers(0, codes, (codec.phases, tokens)).astype(np.uint16),
        accompaniment=rng.integers(0, codes, (1 + variants, codec.phases, tokens)).astype(np.uint16),
        reference=rng.standard_normal((1 + variants, len(windows), width)).astype(np.float16),
        text=rng.standard_normal((2, width)).astype(np.float16),
    ).validate()


def with_codes(sample: Sample, vocal: NDArray[np.uint16], accompaniment: NDArray[np.uint16]) -> Sample:
    """The same song with other codes ``[T]``."""
    return Sample(sample.info, vocal[None], accompaniment[None, None], sample.reference, sample.text).validate()


def with_latents(sample: Sample, width: int) -> Sample:
    """The same song with latents whose first number is the code modulo 100, the others noise."""
    rng = np.random.default_rng(sample.info.tokens)
    latents = {}
    for name in ("vocal", "accompaniment"):
        codes = getattr(sample, name)
        latents[name] = rng.standard_normal((*codes.shape, width)).astype(np.float16)
        latents[name][..., 0] = codes % 100
    return replace(sample, latents=latents).validate()


def write_dataset(folder: Path, splits: dict[str, list[list[Sample]]]) -> Path:
    """A dataset folder: split -> shards -> songs."""
    shards = []
    for split, parts in splits.items():
        for number, samples in enumerate(parts):
            path = folder / f"{split}-{number:06d}.tar"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_tar(samples))
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            size = path.stat().st_size
            shards.append(
                {
                    "split": split,
                    "file": path.name,
                    "sha256": sha256,
                    "bytes": size,
                    "samples": len(samples),
                    "keys_sha256": "",
                }
            )
    manifest = {"schema_version": SCHEMA_VERSION, "name": "toy", "config_hash": "", "shards": shards, "stages": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _tar(samples: Sequence[Sample]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for sample in samples:
            for extension, content in sample.to_files().items():
                info = tarfile.TarInfo(f"{sample.info.key}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
