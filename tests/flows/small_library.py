"""Manifests of a few rendered songs, and the settings by which a build of them goes through every stage."""

import csv
from pathlib import Path

SETTINGS = [
    "splits.min_val=1",
    "splits.min_test=1",
    "selection.gate.threshold=1.0",
    "tokenization.reference_hop_seconds=2.56",
    "conditioning.reference_seconds=5.12",
    "augmentation.copies.share=1.0",
    "selection.require_chorus=false",  # a song of 25 s may have none
    "artifacts.max_accompaniment_singing=1.0",
    "artifacts.max_vocal_leak=0.0",
    "build.workers=2",
]


def rows_of(manifest: Path) -> list[dict[str, str]]:
    """The lines of a manifest of rendered songs, with whole paths; of several songs each with a split."""
    with manifest.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    splits = ["train", "val", "train", "test"]
    for number, row in enumerate(rows):
        for name in ("path", "vocal", "accompaniment"):
            row[name] = str(manifest.parent / row[name]) if row[name] else ""
        row["split"] = splits[number % 4] if len(rows) > 1 else row["split"]
    return rows


def write_manifest(path: Path, rows: list[dict[str, str]]) -> Path:
    names = ["path", "split", "artist", "text", "licence", "vocal", "accompaniment"]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(rows)
    return path
