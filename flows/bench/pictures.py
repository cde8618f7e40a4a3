"""Four pictures: a voice and a band as they were, and through the codec, side by side in time and frequency.

Conventions: mel spectrograms, 0 to 12 kHz, dB below the peak of the original; both pictures of a pair share one scale.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from flows.bench.plan import load_frozen, load_plan
from flows.bench.rendered import check
from flows.bench.test_set import real_recordings
from pipeline.audio import decode, resample, to_samples
from pipeline.codec.codec import SAMPLE_RATE, Codec, CodecConfig, build
from pipeline.codec.mel import SAMPLE_RATE as MEL_RATE
from pipeline.codec.mel import to_24k
from pipeline.jit import librosa
from pipeline.types import Audio

SECONDS = 6.0  # of each picture, from the middle of the file
BANDS, HOP, FFT = 128, 120, 2048  # mel bands; samples at 24 kHz
RANGE_DB = 70.0
WIDTH, HEIGHT, DPI = 7.0, 2.3, 84  # inches, and pixels an inch: 588 x 193, below 150 kB each


def draw(root: Path, out: Path, weights: str = "") -> Iterator[Path]:
    """``voice-original.png``, ``voice-codec.png``, ``band-original.png``, ``band-codec.png``; their paths.

    The voice is the first real singer, the band that of the first frozen song.
    """
    plan = load_plan()
    band = next(iter(check(root, plan, load_frozen()).values())) / "accompaniment.flac"
    codec = build(CodecConfig(weights=weights))
    out.mkdir(parents=True, exist_ok=True)
    for name, path in (("voice", real_recordings(root, plan, "singers")[0]), ("band", band)):
        yield from draw_pair(codec, path, out, name)


def draw_pair(codec: Codec, path: Path, out: Path, name: str) -> Iterator[Path]:
    """The middle of one file, before and after."""
    audio = resample(decode(str(path)), SAMPLE_RATE)
    length = min(audio.length, to_samples(SECONDS, SAMPLE_RATE))
    start = (audio.length - length) // 2
    clip = Audio(audio.samples[:, start : start + length], SAMPLE_RATE)
    original, copy = (spectrogram(sound, length) for sound in (clip, codec.decode(codec.encode(clip)[0])))
    top = float(original.max())
    for kind, picture in (("original", original), ("codec", copy)):
        target = out / f"{name}-{kind}.png"
        _save(picture - top, target)
        yield target


def spectrogram(audio: Audio, samples_48k: int) -> NDArray[np.float32]:
    """dB ``[BANDS, columns]`` of the first `samples_48k` at 48 kHz."""
    wave = to_24k(audio)[: samples_48k * MEL_RATE // SAMPLE_RATE]
    power = librosa.feature.melspectrogram(y=wave, sr=MEL_RATE, n_fft=FFT, hop_length=HOP, n_mels=BANDS)
    return np.asarray(librosa.power_to_db(power, top_db=None), dtype=np.float32)


def _save(picture: NDArray[np.float32], path: Path) -> None:
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    seconds = picture.shape[1] * HOP / MEL_RATE
    axes.imshow(picture, origin="lower", aspect="auto", cmap="magma", vmin=-RANGE_DB, vmax=0, extent=(0, seconds, 0, 1))
    ticks = np.array([0, 500, 1000, 2000, 4000, 8000])
    mels = librosa.hz_to_mel(ticks) / librosa.hz_to_mel(MEL_RATE / 2)
    axes.set_yticks(mels, [f"{hertz / 1000:g}" for hertz in ticks])
    axes.set_ylabel("kHz")
    axes.set_xlabel("s")
    figure.savefig(path, metadata={"Software": None})
