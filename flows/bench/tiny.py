"""Libraries of as many songs as one likes, each as small as a song can be: real files, or catalogue rows without any.

Conventions: everything follows from the seed and the song's number; song `n` of a seed is the same however many there
are. A file is a mono WAV of 8-bit noise; its first samples spell the seed and the number, so no two files are equal.
"""

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from soundfile import write

from pipeline.records.catalog import CatalogRow

RATE = 16_000  # Hz, the lowest rate that `DecodeLimits` lets pass
SONGS_PER_ARTIST = 8  # on average; ours, so that splits by artist have something to keep together
MANIFEST = "manifest.csv"
FOLDER = 1000  # files


def write_library(folder: Path, count: int, seed: int = 0, seconds: float = 0.1) -> Path:
    """`count` tiny songs with a manifest (its path is the answer), one in eight of each artist; old files stay.

    A rehearsal that decodes them (``rehearsal.read_audio``) needs ``library.decode.min_seconds`` below `seconds`.
    """
    noise = np.random.default_rng(seed).integers(-8000, 8000, round(seconds * RATE), np.int16)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("path", "artist", "licence"))
        for number in range(count):
            place = folder / f"{number // FOLDER:04d}" / f"{number:07d}.wav"
            if not place.exists():
                write_song(place, noise, seed, number)
            table.writerow((place.relative_to(folder), artist_of(seed, number, count), "CC0-1.0"))
    return folder / MANIFEST


def write_song(place: Path, noise: "np.ndarray[tuple[int], np.dtype[np.int16]]", seed: int, number: int) -> None:
    """One file: its own first samples, then the noise that all share."""
    place.parent.mkdir(exist_ok=True)
    name = np.frombuffer(hashlib.sha256(f"{seed}-{number}".encode()).digest()[:16], np.int8).astype(np.int16) * 100
    write(place, np.concatenate([name, noise[16:]]), RATE, "PCM_16")


def synthetic_rows(count: int, seed: int = 0) -> Iterator[CatalogRow]:
    """`count` catalogue rows of songs of four minutes whose files don't exist."""
    for number in range(count):
        sha256 = hashlib.sha256(f"{seed}-{number}".encode()).hexdigest()
        yield CatalogRow(
            track_id=sha256[:32], uris=(f"/nowhere/{number // FOLDER:04d}/{number:07d}.wav",), sha256=sha256,
            bytes=240 * RATE * 2 + 44, duration=240.0, sample_rate=RATE, channels=1, split="",
            artist=artist_of(seed, number, count), text="", licence="CC0-1.0", vocal_uri="", accompaniment_uri="",
            error="",
        )  # fmt: skip


def artist_of(seed: int, number: int, count: int) -> str:
    """One of as many artists as there are songs over `SONGS_PER_ARTIST`."""
    digest = hashlib.sha256(f"artist {seed} {number}".encode()).digest()
    return f"artist {int.from_bytes(digest[:8]) % max(1, count // SONGS_PER_ARTIST)}"
