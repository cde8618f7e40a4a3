"""Augmentation: stretched or transposed copies of songs, and frequency-balance variants of audio (paper A.2).

Conventions: a stretch of 1.1 is 1.1 times as fast, so every time is divided by it; both stems pass through one
processor together, so that their phases stay locked, and keep one length; whatever says something about time or pitch
(sections, beats, tempo, key, caption words) is rewritten in the same call. Filters act on float64, causally.
"""

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from pipeline.config import Config
from pipeline.records.schema import FilterRecord
from pipeline.separation.stage import Stems
from pipeline.structure.stage import NOTES, Structure
from pipeline.types import Audio, Seconds, Section, Span

NAME, VERSION = "augmentation", 1
ORIGINAL = "orig"

Range = tuple[float, float]


class CopyConfig(Config):
    """Stretched and transposed copies of whole songs."""

    share: float = 0.2  # of the songs get one copy; paper A.2
    names: tuple[str, ...] = (  # paper A.2
        "stretch-0.8", "stretch-0.9", "stretch-1.1", "stretch-1.2", "pitch-2", "pitch-1", "pitch+1", "pitch+2",
    )  # fmt: skip

    @field_validator("names")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            parse(name)
        return names


class BalanceConfig(Config):
    """Frequency-balance variants of the accompaniment and the reference."""

    probability: float = 0.7  # that a variant is filtered; A.2 (5.2 says 0.5, the released code 0.7)
    bass_gain: Range = (-5.0, -2.0)  # dB; this and the next eight: A.2, uniform
    bass_frequency: Range = (80.0, 180.0)  # Hz
    bass_q: Range = (0.6, 1.1)
    mid_gain: Range = (1.0, 3.0)  # dB
    mid_frequency: Range = (1200.0, 2600.0)  # Hz
    mid_q: Range = (0.6, 1.2)
    treble_gain: Range = (1.0, 3.5)  # dB
    treble_frequency: Range = (3200.0, 5800.0)  # Hz
    treble_q: Range = (0.6, 1.0)


class AugmentationConfig(Config):
    copies: CopyConfig = CopyConfig()
    balance: BalanceConfig = BalanceConfig()


@dataclass(frozen=True, slots=True)
class Augmented:
    """One copy of a song, with everything that was known of it moved along."""

    stems: Stems
    structure: Structure
    captions: tuple[str, ...]
    vocal_active: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What a copy's name says."""

    speed: float  # 1.1 = faster
    semitones: int


def plan(config: CopyConfig, seed: int, track_id: str) -> str:
    """The copy that a song gets besides itself: one of `config.names`, or ``"orig"`` for none. Pure."""
    digest = hashlib.sha256(f"{NAME}:{seed}:{track_id}".encode()).digest()
    draw, choice = int.from_bytes(digest[:8]), int.from_bytes(digest[8:16])
    if not config.names or draw >= config.share * 2**64:
        return ORIGINAL
    return config.names[choice % len(config.names)]


def parse(name: str) -> Change:
    """``"stretch-0.9"``, ``"pitch+2"`` or ``"orig"``; `ValueError` for any other name."""
    if name == ORIGINAL:
        return Change(1.0, 0)
    if (match := re.fullmatch(r"stretch-(\d+(?:\.\d+)?)", name)) and 0.5 <= float(match[1]) <= 2:
        return Change(float(match[1]), 0)
    if (match := re.fullmatch(r"pitch([+-]\d+)", name)) and abs(int(match[1])) <= 12:
        return Change(1.0, int(match[1]))
    raise ValueError(
        f"augmentation {name!r} is none of 'orig', 'stretch-<0.5 to 2>', 'pitch+<n>', 'pitch-<n>' (n <= 12 semitones)"
    )


def augment(
    stems: Stems, structure: Structure, captions: Sequence[str], vocal_active: Sequence[Span], name: str
) -> Augmented:
    """The copy called `name` of one song; ``"orig"`` gives the song back unchanged. Deterministic."""
    change = parse(name)
    if change == Change(1.0, 0):
        return Augmented(stems, structure, tuple(captions), tuple(vocal_active))
    changed = _stems(stems, change)
    moved = _mover(change.speed, changed.vocal.duration)
    return Augmented(
        changed,
        _structure(structure, change, moved),
        tuple(_caption(caption, change) for caption in captions),
        tuple(Span(moved(span.start), moved(span.end)) for span in vocal_active),
    )


def transposed(audio: Audio, semitones: int) -> Audio:
    """The same length, `semitones` higher."""
    samples = _transposed(audio.samples, audio.sample_rate, Change(1.0, semitones))
    return Audio(np.ascontiguousarray(samples), audio.sample_rate)


def transpose_key(key: str, semitones: int) -> str:
    """``"B minor"`` and 2 -> ``"C# minor"``, ``"Ab major"`` and 1 -> ``"A major"``; `ValueError` for other forms."""
    if not (match := _KEY.fullmatch(key)):
        raise ValueError(f"key {key!r} must be a note and a mode, like 'F# minor' or 'Ab major'")
    return _moved_key(match, semitones)


def balance_filters(config: BalanceConfig, rng: np.random.Generator) -> tuple[FilterRecord, ...]:
    """One draw of A.2's three filters, in the order in which they act; empty with probability ``1 - balance``."""
    if rng.random() >= config.probability:
        return ()
    ranges = {
        "bass": (config.bass_gain, config.bass_frequency, config.bass_q),
        "mid": (config.mid_gain, config.mid_frequency, config.mid_q),
        "treble": (config.treble_gain, config.treble_frequency, config.treble_q),
    }
    return tuple(FilterRecord(kind, *(float(rng.uniform(*r)) for r in triple)) for kind, triple in ranges.items())


def biquad(record: FilterRecord, sample_rate: int) -> NDArray[np.float64]:
    """One second-order section ``[6]`` (b0 b1 b2 1 a1 a2): shelves and peak of R. Bristow-Johnson's cookbook.

    Gains: bass has `gain_db` at DC and 0 dB at Nyquist, treble the reverse, each half of it (in dB) at its frequency;
    mid has `gain_db` at its frequency and 0 dB at both ends. `ValueError` for a frequency outside
    ``(0, sample_rate / 2)`` or an unknown kind.
    """
    if not 0 < record.frequency < sample_rate / 2:
        raise ValueError(f"filter frequency {record.frequency} Hz must lie between 0 and {sample_rate / 2} Hz")
    omega = 2 * math.pi * record.frequency / sample_rate
    cosine, alpha = math.cos(omega), math.sin(omega) / (2 * record.q)
    amplitude = 10 ** (record.gain_db / 40)
    if record.kind == "mid":
        b: tuple[float, ...] = (1 + alpha * amplitude, -2 * cosine, 1 - alpha * amplitude)
        a: tuple[float, ...] = (1 + alpha / amplitude, -2 * cosine, 1 - alpha / amplitude)
    elif record.kind in ("bass", "treble"):
        b, a = _shelf(amplitude, cosine if record.kind == "bass" else -cosine, alpha)
        if record.kind == "treble":  # a high shelf is a low shelf mirrored at a quarter of the rate: z -> -z
            b, a = (b[0], -b[1], b[2]), (a[0], -a[1], a[2])
    else:
        raise ValueError(f"filter kind {record.kind!r} is none of 'bass', 'mid', 'treble'")
    return np.array([*b, *a], dtype=np.float64) / np.float64(a[0])


def apply_filters(audio: Audio, filters: Sequence[FilterRecord]) -> Audio:
    """The filters one after the other; no filters, the same audio. May exceed full scale: loudness comes after."""
    from scipy.signal import sosfilt

    if not filters:
        return audio
    sections = np.stack([biquad(record, audio.sample_rate) for record in filters])
    return Audio(sosfilt(sections, audio.samples.astype(np.float64), axis=1).astype(np.float32), audio.sample_rate)


def _shelf(amplitude: float, cosine: float, alpha: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    slope = 2 * math.sqrt(amplitude) * alpha
    up, down = amplitude + 1, amplitude - 1
    b = (
        amplitude * (up - down * cosine + slope),
        2 * amplitude * (down - up * cosine),
        amplitude * (up - down * cosine - slope),
    )
    return b, (up + down * cosine + slope, -2 * (down + up * cosine), up + down * cosine - slope)


def _stems(stems: Stems, change: Change) -> Stems:
    """Both stems as the channels of one signal: stretched together, cut apart again."""
    vocal, accompaniment = stems.vocal, stems.accompaniment
    if (vocal.sample_rate, vocal.length) != (accompaniment.sample_rate, accompaniment.length):
        raise ValueError(
            f"stems must agree: vocal {vocal.length} samples at {vocal.sample_rate} Hz, "
            f"accompaniment {accompaniment.length} at {accompaniment.sample_rate} Hz"
        )
    joint = np.concatenate([vocal.samples, accompaniment.samples])
    changed = (
        _transposed(joint, vocal.sample_rate, change)
        if change.semitones
        else _stretched(joint, vocal.sample_rate, change.speed)
    )
    return Stems(
        Audio(np.ascontiguousarray(changed[: vocal.channels]), vocal.sample_rate),
        Audio(np.ascontiguousarray(changed[vocal.channels :]), vocal.sample_rate),
    )


def _stretched(samples: NDArray[np.float32], sample_rate: int, speed: float) -> NDArray[np.float32]:
    """``[channels, n]`` -> ``[channels, round(n / speed)]`` at the same pitch."""
    from python_stretch.Signalsmith import Stretch

    stretch = Stretch()
    stretch.preset(len(samples), sample_rate)
    stretch.setTimeFactor(speed)
    return _fit(np.asarray(stretch.process(samples), dtype=np.float32), int(samples.shape[1] / speed + 0.5))


def _transposed(samples: NDArray[np.float32], sample_rate: int, change: Change) -> NDArray[np.float32]:
    """The same length, `semitones` higher: stretched, then played faster by resampling.

    Signalsmith's own transposition was up to 57 cents off on sines of 41 and 55 Hz, which would put the bass out of
    tune; this way was within 0.2 cents.
    """
    import soxr

    ratio = 2 ** (change.semitones / 12)
    longer = _stretched(samples, sample_rate, 1 / ratio)
    played = soxr.resample(longer.T, sample_rate * ratio, sample_rate, quality="HQ").T
    return _fit(played, samples.shape[1])


def _fit(samples: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Cut or zero-padded at the end: the processors may round a length by a sample."""
    return np.pad(samples[:, :length], ((0, 0), (0, max(0, length - samples.shape[1]))))


def _mover(speed: float, duration: Seconds) -> Callable[[Seconds], Seconds]:
    """Old time -> new time, never past the end of the copy."""
    return lambda seconds: min(seconds / speed, duration)


def _structure(structure: Structure, change: Change, moved: Callable[[Seconds], Seconds]) -> Structure:
    return replace(
        structure,
        sections=tuple(Section(moved(s.start), moved(s.end), s.label) for s in structure.sections),
        beats=tuple(moved(t) for t in structure.beats),
        downbeats=tuple(moved(t) for t in structure.downbeats),
        tempo=structure.tempo * change.speed,
        key=transpose_key(structure.key, change.semitones),
    )


_BPM = re.compile(r"\b(\d+(?:\.\d+)?)([ -]?)(BPM|beats per minute)\b", re.IGNORECASE)
_KEY = re.compile(r"\b([A-G])(#|b|♯|♭| sharp| flat)?([ -])(major|minor)\b")
_ACCIDENTALS = {"": 0, "#": 1, "♯": 1, " sharp": 1, "b": -1, "♭": -1, " flat": -1}


def _caption(caption: str, change: Change) -> str:
    """The caption with its tempo and key words made true of the copy."""

    if change.speed != 1:
        caption = _BPM.sub(lambda m: f"{float(m[1]) * change.speed:.0f}{m[2]}{m[3]}", caption)
    return _KEY.sub(lambda m: _moved_key(m, change.semitones), caption) if change.semitones else caption


def _moved_key(match: re.Match[str], semitones: int) -> str:
    tonic = NOTES.index(match[1]) + _ACCIDENTALS[match[2] or ""] + semitones
    return f"{NOTES[tonic % 12]}{match[3]}{match[4]}"
