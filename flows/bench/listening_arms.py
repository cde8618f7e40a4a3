"""The arms of the listening experiment: one accompaniment, several vocals, the same masks; and what each costs.

Conventions: nats a token by the exact estimator (`model.evaluation.nll`), every arm with the same masks of the same
crops; a gain is what an arm costs more than the true vocal, so positive means that the true vocal helps; intervals are
95 % percentile bootstrap over songs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from flows.bench.listening_pairs import PREFIX_WIDTH, Codes, fitted
from model.evaluation.floors import song_seed
from model.evaluation.intervals import Interval, bootstrap
from model.evaluation.nll import crop_nats
from model.network import MaskPredictor
from pipeline.codec.codec import FRAME_RATE

TRUE, SHIFTED, TRANSPOSED, OTHER, ANY = "true", "shifted", "transposed", "other song", "any song"
TWIN, TWIN_AGAIN, TWIN_OTHER, UNIGRAM = "twin", "twin again", "twin, other song", "unigram"
ARMS = (TRUE, SHIFTED, TRANSPOSED, OTHER, ANY)
SHIFT_SECONDS = (2.0, 8.0)  # ours
DRAWS, CONFIDENCE = 2000, 0.95  # of the bootstrap


@dataclass(frozen=True, slots=True)
class Held:
    """One held-out song and the vocals that are given for it; an arm that it lacks is left out for it."""

    name: str
    accompaniment: Codes  # [T]
    vocals: Mapping[str, Codes]  # arm -> [T]


@dataclass(frozen=True, slots=True)
class Gain:
    """What an arm costs more than the true vocal, over the songs that have both."""

    arm: str
    nats: float  # mean, a token
    interval: Interval | None
    songs: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out, on the upper side."""
        return self.interval is not None and self.interval.low > 0

    @property
    def none(self) -> bool:
        """Whether nothing speaks for a gain: zero lies within, or the true vocal is even worse."""
        return self.interval is not None and self.interval.low <= 0


def held(name: str, accompaniment: Codes, streams: Mapping[str, Codes], seed: int) -> Held:
    """A song with its arms; `streams` holds the true vocal, and may hold the transposed one and other songs'."""
    length = len(accompaniment)
    frames = [round(seconds * FRAME_RATE) for seconds in SHIFT_SECONDS]
    by = int(np.random.default_rng(song_seed(seed, name)).integers(frames[0], frames[1] + 1))
    vocals = {arm: fitted(codes, length) for arm, codes in streams.items()}
    return Held(name, accompaniment, vocals | {SHIFTED: np.roll(vocals[TRUE], by)})


@torch.inference_mode()
def song_nats(
    network: MaskPredictor, song: Held, arms: Sequence[str], crop_tokens: int, draws: int, seed: int
) -> dict[str, float]:
    """Arm -> nats a token of the whole song; every arm under the same masks."""
    network.eval()
    found = {}
    nothing = torch.zeros(1, 2, PREFIX_WIDTH), torch.ones(1, 2, dtype=torch.bool)
    for arm in arms:
        if arm not in song.vocals:
            continue
        generator = torch.Generator().manual_seed(song_seed(seed, song.name))
        total = 0.0
        for start in range(0, len(song.accompaniment), crop_tokens):
            vocal, codes = (
                torch.from_numpy(stream[None, start : start + crop_tokens].astype(np.int64))
                for stream in (song.vocals[arm], song.accompaniment)
            )
            total += crop_nats(network, vocal, codes, *nothing, draws, generator)
        found[arm] = total / len(song.accompaniment)
    return found


def unigram_nats(counts: NDArray[np.int64], song: Held) -> float:
    """Nats a token under add-one frequencies of the training accompaniments."""
    log_p = np.log(counts + 1) - np.log(counts.sum() + len(counts))
    return float(-log_p[song.accompaniment].mean())


def gains(scores: Mapping[str, Mapping[str, float]], seed: int = 0) -> list[Gain]:
    """From song -> arm -> nats: each arm against the true vocal; the twin's other song, and the other twin, against the
    twin with the true one."""
    pairs = [(arm, TRUE, arm) for arm in (TWIN, SHIFTED, TRANSPOSED, OTHER, ANY, UNIGRAM)]
    pairs += [(arm, TWIN, arm) for arm in (TWIN_OTHER, TWIN_AGAIN)]
    found = []
    for name, base, arm in pairs:
        values = [nats[arm] - nats[base] for nats in scores.values() if arm in nats and base in nats]
        if values:
            interval = bootstrap(values, DRAWS, CONFIDENCE, seed)
            found.append(Gain(name, float(np.mean(values)), interval, len(values)))
    return found
