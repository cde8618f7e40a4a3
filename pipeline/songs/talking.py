"""Talking inside a song: the form fault "speech", sentences that fill the spoken sections."""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from pipeline.songs.podcast import VOICES, script
from pipeline.songs.score import RATE, Score, stream
from pipeline.songs.voice import speak

Sentence = tuple[float, float, str]  # start s, end s, text
EDGE = 0.25  # s of a spoken section before the first sentence and after the last


def talk(score: Score, samples: int) -> tuple[NDArray[np.float64], tuple[Sentence, ...]]:
    """Speech, [samples] at 48 kHz, in the song's spoken sections, and its sentences; silence where there are none."""
    out = np.zeros(samples)
    spoken = [part for part in score.parts if part.spoken]
    if not spoken:
        return out, ()
    rng = stream(score.seed, "talk")
    texts = script(rng)
    voice, speed = str(rng.choice(VOICES)), int(rng.integers(135, 180))
    pending = list(zip(texts, speak(texts, voice, speed), strict=True))
    sentences: list[Sentence] = []
    for part in spoken:
        at, stop = score.seconds(part.start) + EDGE, score.seconds(part.end) - EDGE
        for text, utterance in (*pending, *pending):  # a second round where the section is longer than the script
            sound = resample_poly(utterance.samples, RATE // 150, utterance.rate // 150)
            length = len(sound) / RATE
            if at + length <= stop and (not sentences or sentences[-1][2] != text):
                first = round(at * RATE)
                out[first : first + len(sound)] = sound[: samples - first]
                sentences.append((at, at + length, text))
                at += length + float(rng.uniform(0.1, 0.4))
        pending = [pending[i] for i in rng.permutation(len(pending))]
    return out / (np.abs(out).max() + 1e-9), tuple(sentences)
