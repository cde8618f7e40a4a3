"""Known bleed is measured as what it is, more bleed never reads as less, and each fault has its own reason."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.audio import decode
from pipeline.separation.artifacts import FLOOR_DB, ArtifactCheck, ArtifactConfig, Artifacts
from pipeline.separation.stage import Stems
from pipeline.types import Audio

RATE = 48_000
SECONDS = 16
CHECK = ArtifactCheck(ArtifactConfig())
GAINS = [-40.0, -30.0, -20.0, -15.0, -10.0, -6.0, 0.0]  # dB


def _voice() -> np.ndarray:
    """Harmonics of a wandering pitch with vibrato, in phrases of two seconds with pauses of one."""
    time = np.arange(SECONDS * RATE) / RATE
    pitch = 220 * 2 ** (np.round(4 * np.sin(0.7 * time)) / 12 + 0.03 * np.sin(2 * np.pi * 5.5 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 20))
    return (0.1 * tone * (time % 3 < 2)).astype(np.float32)


def _band() -> np.ndarray:
    """Held chords and a beat of noise bursts."""
    time = np.arange(SECONDS * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * f * k * time) / k for f in (130.8, 164.8, 196.0) for k in range(1, 8))
    noise = np.random.default_rng(0).normal(size=time.size) * np.exp(-12 * (time % 0.5))
    return (0.04 * chord + 0.1 * noise).astype(np.float32)


VOICE, BAND = _voice(), _band()


def stereo(samples: np.ndarray) -> Audio:
    return Audio(np.stack([samples, samples]).astype(np.float32), RATE)


def check(vocal: np.ndarray, accompaniment: np.ndarray, mixture: np.ndarray | None = None) -> Artifacts:
    whole = vocal + accompaniment if mixture is None else mixture
    return CHECK(stereo(whole), Stems(stereo(vocal), stereo(accompaniment)))


def bleed(source: np.ndarray, decibel: float) -> np.ndarray:
    return source * np.float32(10 ** (decibel / 20))


def test_clean_stems_are_kept() -> None:
    found = check(VOICE, BAND)
    assert found.keep
    assert found.vocal_leak_db < -20
    assert found.accompaniment_leak_db == FLOOR_DB
    assert found.reconstruction_db < -100
    assert found.accompaniment_silent_share == 0


def test_vocal_in_the_accompaniment_is_measured() -> None:
    read = [check(VOICE, BAND + bleed(VOICE, gain)).vocal_leak_db for gain in GAINS]
    assert read == sorted(read)
    assert read[3:] == pytest.approx(GAINS[3:], abs=2)
    assert max(read[:2]) < -20


def test_accompaniment_in_the_vocal_is_measured() -> None:
    read = [check(VOICE + bleed(BAND, gain), BAND, VOICE + BAND).accompaniment_leak_db for gain in GAINS]
    assert read == sorted(read)
    assert read == pytest.approx(GAINS, abs=2)


def test_the_levels_of_the_stems_do_not_matter() -> None:
    loud, quiet = check(VOICE, BAND + bleed(VOICE, -10)), check(VOICE / 10, (BAND + bleed(VOICE, -10)) / 10)
    assert quiet.vocal_leak_db == pytest.approx(loud.vocal_leak_db, abs=0.1)
    assert quiet.accompaniment_leak_db == pytest.approx(loud.accompaniment_leak_db, abs=0.1)


@pytest.mark.parametrize("missing", [-80.0, -50.0, -20.0])
def test_what_the_stems_miss_is_measured(missing: float) -> None:
    power = np.sqrt(np.mean((VOICE + BAND) ** 2))
    error = np.random.default_rng(1).normal(size=VOICE.size).astype(np.float32) * power
    found = check(VOICE, BAND, VOICE + BAND + bleed(error, missing))
    assert found.reconstruction_db == pytest.approx(missing, abs=0.2)


def test_each_fault_has_its_reason() -> None:
    nothing = np.zeros_like(VOICE)
    faults = {
        "vocal in the accompaniment": check(VOICE, BAND + bleed(VOICE, -6)),
        "accompaniment in the vocal": check(VOICE + bleed(BAND, -6), BAND, VOICE + BAND),
        "stems miss the mixture": check(VOICE, BAND, VOICE + 1.1 * BAND),
        "vocal silent": check(nothing, BAND),
        "accompaniment silent": check(VOICE, nothing),
    }
    for reason, found in faults.items():
        assert not found.keep
        assert [text for text in found.reasons if text.startswith(reason)], (reason, found)
    assert len(faults["vocal silent"].reasons) == 1


def test_nobody_is_heard_singing_in_a_band() -> None:
    assert check(VOICE, BAND).accompaniment_singing == 0


@pytest.mark.songs
def test_a_voice_that_was_missed_is_heard(tmp_path: Path) -> None:
    from pipeline.songs.render import render_song

    song = render_song(77, tmp_path, (40.0, 60.0))
    mixture, vocal, accompaniment = (decode(str(path)) for path in (song.mix, song.vocal, song.accompaniment))
    silence = Audio(np.zeros_like(mixture.samples), mixture.sample_rate)
    assert CHECK(mixture, Stems(vocal, accompaniment)).keep
    missed = CHECK(mixture, Stems(silence, mixture))
    assert [reason for reason in missed.reasons if reason.startswith("singing in the accompaniment")]


def test_silent_shares() -> None:
    half = VOICE.copy()
    half[: half.size // 2] = 0
    assert check(half, BAND).vocal_silent_share == pytest.approx(check(VOICE, BAND).vocal_silent_share + 0.3, abs=0.2)
    assert check(np.zeros_like(VOICE), BAND).vocal_silent_share == 1
    silence = np.zeros_like(VOICE)
    assert check(silence, silence).reconstruction_db == -120


def test_stems_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="stems differ"):
        CHECK(stereo(VOICE), Stems(stereo(VOICE), stereo(BAND[:-1])))
