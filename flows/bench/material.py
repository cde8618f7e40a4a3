"""What the bench measures on: paths of rendered songs with their truth, and of real recordings.

Conventions: a rendered folder holds mix.flac, vocal.flac, accompaniment.flac and truth.json; every tuple has a fixed
order; the frozen test set (`test_set`) fills it, or any other folder of songs for a look while tuning.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Progress = Callable[[int, int], None]
"""Clips done, clips in all."""


@dataclass(frozen=True, slots=True)
class Material:
    """Paths by kind; a measure takes what it needs."""

    songs: tuple[Path, ...] = ()  # folders of clean rendered songs
    faulty: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)  # form fault -> folders of songs that have it
    instrumentals: tuple[Path, ...] = ()  # folders
    podcasts: tuple[Path, ...] = ()  # folders
    singers: tuple[Path, ...] = ()  # real solo voices, audio files
    backings: tuple[Path, ...] = ()  # real instrumental recordings, audio files
    prompts: tuple[Path, ...] = ()  # real speech, 8 kHz wav

    def first(self, count: int) -> "Material":
        """The first `count` of every kind, for a quick look."""
        if count < 1:
            raise ValueError(f"count must be >= 1, got {count}")
        return Material(
            songs=self.songs[:count],
            faulty={fault: folders[:count] for fault, folders in self.faulty.items()},
            instrumentals=self.instrumentals[:count],
            podcasts=self.podcasts[:count],
            singers=self.singers[:count],
            backings=self.backings[:count],
            prompts=self.prompts[:count],
        )
