"""What the model's accompaniment stands between: two floors below, one ceiling above.

Conventions: audio is 48 kHz, of exactly the asked length and at the level that generation gives its output.
"""

import hashlib

import numpy as np

from pipeline.audio import apply_gain, peak_dbfs, resample
from pipeline.codec.codec import CODEBOOK_SIZE, SAMPLE_RATE, Codec, token_count
from pipeline.loudness import LoudnessConfig, level
from pipeline.types import Audio

PAPER = LoudnessConfig()


def song_seed(seed: int, key: str) -> int:
    """A 32-bit seed for one song, independent of which other songs are evaluated."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:4], "big")


def random_codes(codec: Codec, length: int, gain_db: float, seed: int, loudness: LoudnessConfig = PAPER) -> Audio:
    """Uniformly random codes, decoded: what a model that learnt nothing would play, `gain_db` louder than decoded.

    As in generation, less loud where the peak would pass that of the loudness rule.
    """
    codes = np.random.default_rng(seed).integers(0, CODEBOOK_SIZE, token_count(length), dtype=np.uint16)
    played = fit(codec.decode(codes), length)
    return apply_gain(played, min(gain_db, loudness.peak - peak_dbfs(played)))


def partner(index: int, count: int) -> int | None:
    """Whose accompaniment song `index` borrows, never its own; `None` where there is no other song."""
    return (index + 1) % count if count > 1 else None


def through_codec(codec: Codec, accompaniment: Audio, loudness: LoudnessConfig = PAPER) -> Audio:
    """The truth, encoded and decoded under the loudness rule of training: no model on this codec can do better."""
    truth = at_48k(accompaniment)
    levelled, gain = level(truth, loudness)
    heard = codec.decode(codec.encode(levelled)[0])
    return apply_gain(fit(heard, truth.length), -gain)


def at_48k(audio: Audio) -> Audio:
    """The audio at the codec's rate."""
    return audio if audio.sample_rate == SAMPLE_RATE else resample(audio, SAMPLE_RATE)


def fit(audio: Audio, length: int) -> Audio:
    """Exactly `length` samples: cut, or repeated from the start where it is too short."""
    if audio.length == 0:
        raise ValueError("an empty recording can't be fitted to a length")
    repeats = -(-length // audio.length)
    return Audio(np.tile(audio.samples, (1, repeats))[:, :length], audio.sample_rate)
