"""Recordings that nobody here made: four instrumentals of Debian's fretsonfire-songs-sectoid."""

import os
from pathlib import Path

import pytest

from pipeline.audio import decode
from pipeline.detection.stage import DetectionConfig
from pipeline.detection.stage import build as build_detector
from pipeline.quality.stage import QualityConfig
from pipeline.quality.stage import build as build_rater

FOLDER = Path("/usr/share/games/fretsonfire/data/songs/sectoid")
NAMES = ("Escape from chaosland", "Feelings", "Metal madness", "War of freedom")


@pytest.fixture(scope="module")
def folder() -> Path:
    if not FOLDER.is_dir():
        message = "needs Debian's fretsonfire-songs-sectoid (tests/debian.txt)"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return FOLDER


@pytest.mark.parametrize("name", NAMES)
def test_real_instrumental_is_no_song_and_a_clean_recording(folder: Path, name: str) -> None:
    audio = decode(str(folder / name / "song.ogg"))
    found = build_detector(DetectionConfig())(audio)
    assert found.kind == "instrumental", found.reason
    assert "singing in only" in found.reason
    assert build_rater(QualityConfig())(audio).mean >= 3.5
