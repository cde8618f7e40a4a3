"""The loudness rule: how loud the codec and the conditioner hear a song, at a build as at generation.

Conventions: levels are dBFS over all channels of the whole recording; gains are dB.
"""

from pydantic import Field

from pipeline.audio import apply_gain, loudness_gain_db
from pipeline.config import Config
from pipeline.types import Audio


class LoudnessConfig(Config):
    """A setting of the build that the model carries: a voice must be heard as those of training were."""

    rms: float = Field(default=-16.0, le=0)  # dBFS, over the song; paper 5.2
    peak: float = Field(default=-1.0, le=0)  # dBFS, never passed; paper 5.2


def gain_db(audio: Audio, config: LoudnessConfig) -> float:
    """Gain that brings the RMS to the target, or less where the peak would pass its limit; 0 for silence."""
    return loudness_gain_db(audio, config.rms, config.peak)


def level(audio: Audio, config: LoudnessConfig) -> tuple[Audio, float]:
    """The audio under the rule, and the gain that brought it there."""
    gain = gain_db(audio, config)
    return apply_gain(audio, gain), gain
