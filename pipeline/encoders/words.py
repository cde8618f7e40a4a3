"""Words for what is heard: a linear head on musicnn's summary that knows the renderer's styles and instruments.

Trained on songs that Backline rendered (`pipeline.conditioning.training`), card beside the weights. It answers on
real recordings too, in terms of those styles; the further they lie from the training songs, the flatter the answer.

Conventions: styles exclude each other (their probabilities sum to one), instruments don't; both in the order of
`Words.styles` and `Words.instruments`.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pipeline.encoders.listener import SUMMARY, Heard
from pipeline.errors import BackendUnavailable

SHIPPED = Path(__file__).parent / "weights" / "words.safetensors"
LICENCE = "Apache-2.0"
CLIP = 3.0  # standard deviations of the training songs; keeps what was never heard from saturating the answer
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Guess:
    """Probabilities of the words."""

    styles: Array  # [S], sums to 1
    instruments: Array  # [I], each 0..1
    distance: float  # from the training songs, 1 = as far as all but 1 % of unseen songs of the same renderer


@dataclass(frozen=True, slots=True)
class WordHead:
    """Linear in the standardised summary: logits of `styles`, then of `instruments`."""

    styles: tuple[str, ...]  # S
    instruments: tuple[str, ...]  # I
    mean: Array  # [900]
    scale: Array  # [900]
    weight: Array  # [900, S + I]
    bias: Array  # [S + I]
    prior: Array  # [S + I], share of the training songs
    spread: float  # rms of the standardised summary that 99 % of unseen songs of the renderer stay below

    def __post_init__(self) -> None:
        words = len(self.styles) + len(self.instruments)
        if self.weight.shape != (SUMMARY, words) or self.bias.shape != (words,) or self.prior.shape != (words,):
            raise ValueError(f"weight is {self.weight.shape}, expected {(SUMMARY, words)} for {words} words")

    def __call__(self, heard: Heard) -> Guess:
        z = (heard.summary() - self.mean) / self.scale
        distance = float(np.sqrt(np.mean(np.square(np.clip(z, -10, 10))))) / self.spread
        logits = (np.clip(z, -CLIP, CLIP) @ self.weight + self.bias) / max(1.0, distance)
        styles, instruments = np.split(logits, [len(self.styles)])
        shares = np.exp(styles - styles.max())
        return Guess(shares / shares.sum(), 1 / (1 + np.exp(-instruments)), distance)

    def to_bytes(self) -> bytes:
        """A safetensors file, the matrix in half precision; the same head gives the same bytes."""
        words = json.dumps({"styles": self.styles, "instruments": self.instruments}, sort_keys=True)
        arrays = {name: getattr(self, name).astype(np.float32) for name in ("mean", "scale", "bias", "prior")}
        arrays |= {"weight": self.weight.astype(np.float16), "spread": np.array([self.spread], np.float32)}
        return bytes(save(arrays, metadata={"words": words}))


class Words:
    """The shipped head, or another file of the same layout. `BackendUnavailable` if the file isn't such a head."""

    licence = LICENCE

    def __init__(self, path: Path = SHIPPED) -> None:
        self._path = path
        self.head = load_head(path)

    @cached_property
    def weights_sha256(self) -> str:
        return hashlib.sha256(self._path.read_bytes()).hexdigest()

    def __call__(self, heard: Heard) -> Guess:
        return self.head(heard)


def load_head(path: Path) -> WordHead:
    """Read what `WordHead.to_bytes` wrote."""
    try:
        with safe_open(path, framework="np") as file:
            words = json.loads((file.metadata() or {})["words"])
            arrays = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118
        spread = float(arrays.pop("spread")[0])
        return WordHead(tuple(words["styles"]), tuple(words["instruments"]), spread=spread, **arrays)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        remedy = "reinstall backline, or train it with backline conditioning train"
        raise BackendUnavailable(f"{path} is not a head of words: {error}; {remedy}") from error
