"""What can be set of MuCodec. Light: no network is imported for it."""

from typing import Literal, Self

from pydantic import Field

from pipeline.config import Config

WINDOW_TOKENS = 1024  # codes of one window: 40.96 s
ENCODED_AT_ONCE = 3  # windows; the released code's batch_size
ASSETS = ("mucodec", "mucodec-vae")  # in this order their hashes make the codec's one
DECODING = ("guidance", "steps", "seed", "precision")  # settings that no code depends on


class MuCodecConfig(Config):
    # released: audio tiled with itself, windows start every 40.97 s; zero_pad: silence, and every 40.96 s
    windows: Literal["released", "zero_pad"] = "released"
    phases: int = Field(default=1, ge=1, le=WINDOW_TOKENS)  # F, shifts of the windows; released code: 1
    guidance: float = Field(default=1.5, ge=1.0)  # of the decoder, 1 = none; released code
    steps: int = Field(default=20, ge=1)  # Euler steps of the decoder; released code
    seed: int = 0  # of the decoder's noise, together with the codes; ours
    # of the decoder's network: the released code decodes in float16 on a GPU; float32 repeats everywhere. With random
    # weights, 20 steps in float16 end 67 dB from the latents of float32, in bfloat16 51 dB. Encoding is float32 always:
    # in bfloat16 44 % of the codes stay (tests/pipeline/test_precision.py)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"

    def encoding(self) -> Self:
        """The same with what decoding alone reads at its defaults: what a song's codes follow from."""
        return self.model_copy(update={name: type(self).model_fields[name].default for name in DECODING})
