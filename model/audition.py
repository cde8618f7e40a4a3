"""A fixed validation voice, and what the network as it stands plays behind it: to be heard and seen while training.

Conventions: below ``heard/`` of the run's folder: ``voice.flac``, ``truth.flac`` (both through the codec) and one
``step-N.flac`` with its spectrogram ``step-N.png``, the truth above; 48 kHz. The text is given, no reference. Nothing
is drawn from a global stream, so that a run that listens trains like one that doesn't.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from model.config import TrainRun
from model.data import prefix
from model.denoising import Conditions, Song, denoise_many
from model.network import MaskPredictor
from model.whole import at_hand
from pipeline.audio import apply_gain, encode_bytes, loudness_gain_db
from pipeline.codec import codec as codecs
from pipeline.codec.codec import FRAME_RATE, Codes
from pipeline.jit import librosa
from pipeline.records.schema import Sample
from pipeline.types import Audio

FOLDER = "heard"
SECONDS = 20.0  # of the voice, from its first note on; ours
BANDS, HOP, FFT, RANGE_DB = 96, 1024, 4096, 70.0  # of the pictures, at 48 kHz; hop 21 ms


def audition(network: MaskPredictor, samples: Sequence[Sample], run: TrainRun, folder: Path, step: int) -> Path:
    """Play behind the first voice of `samples` that sings; the audio's path."""
    sample = voice_of(samples)
    return write_heard(sample, play_behind(network, sample, run), run, folder, step)


def voice_of(samples: Sequence[Sample]) -> Sample:
    return next((sample for sample in samples if sample.info.vocal_active), samples[0])


def play_behind(network: MaskPredictor, sample: Sample, run: TrainRun) -> Codes:
    """Accompaniment codes ``[T]`` of the voice's span. Of a network in shards every process plays, and plays alike."""
    training = network.training
    network.eval()
    song = Song(sample.vocal[0, span_of(sample)], _conditions(sample, next(network.parameters()).device), seed=0)
    with at_hand(network):
        (played,) = denoise_many(network, [song], run.sampler)
    network.train(training)
    return played


def write_heard(sample: Sample, played: Codes, run: TrainRun, folder: Path, step: int) -> Path:
    """Voice, truth and what was played, as audio and as a picture."""
    with torch.random.fork_rng(devices=[]):  # building a codec's network draws weights that its file replaces
        codec = codecs.build(run.codec)
    span = span_of(sample)
    truth, heard, voice = (
        levelled(codec.decode(codes)) for codes in (sample.accompaniment[0, 0, span], played, sample.vocal[0, span])
    )
    out, name = folder / FOLDER, f"step-{step:08d}"
    out.mkdir(parents=True, exist_ok=True)
    for file, audio in (("voice", voice), ("truth", truth), (name, heard)):
        write(out / f"{file}.flac", audio)
    picture(out / f"{name}.png", {"the true accompaniment": truth, f"step {step}": heard})
    return out / f"{name}.flac"


def span_of(sample: Sample) -> slice:
    """Codes of `SECONDS` from the first note on, or of the song's last."""
    begin = int(sample.info.vocal_active[0][0] * FRAME_RATE) if sample.info.vocal_active else 0
    length = round(SECONDS * FRAME_RATE)
    begin = min(begin, max(0, sample.info.tokens - length))
    return slice(begin, begin + length)


def _conditions(sample: Sample, device: torch.device) -> Conditions:
    text = sample.text[0] if len(sample.text) else None
    vectors = torch.from_numpy(prefix(text, None, sample.text.shape[1])).to(device)
    return Conditions(vectors, torch.tensor([text is None, True], device=device))


def levelled(audio: Audio) -> Audio:
    """As loud as the loudness rule wants it, so that steps compare."""
    return apply_gain(audio, loudness_gain_db(audio))


def write(path: Path, audio: Audio) -> None:
    """FLAC, in one step."""
    draft = path.with_name(f".{path.name}")
    draft.write_bytes(encode_bytes(audio, "FLAC"))
    draft.replace(path)


def picture(path: Path, sounds: dict[str, Audio]) -> None:
    """Mel spectrograms one above the other, dB below the loudest of each, PNG."""
    figure = Figure(figsize=(9.0, 2.1 * len(sounds)), dpi=90, layout="constrained")
    for axes, (title, audio) in zip(
        np.atleast_1d(figure.subplots(len(sounds), 1, sharex=True)), sounds.items(), strict=True
    ):
        power = librosa.feature.melspectrogram(
            y=audio.mono().samples[0], sr=audio.sample_rate, n_fft=FFT, hop_length=HOP, n_mels=BANDS, fmax=16_000
        )
        shown = librosa.power_to_db(power, ref=max(float(power.max()), 1e-10), top_db=RANGE_DB)
        axes.imshow(
            shown, origin="lower", aspect="auto", cmap="magma", vmin=-RANGE_DB, vmax=0, extent=(0, audio.duration, 0, 1)
        )
        ticks = np.array([250, 500, 1000, 2000, 4000, 8000])
        axes.set_yticks(librosa.hz_to_mel(ticks) / librosa.hz_to_mel(16_000), [f"{hertz / 1000:g}" for hertz in ticks])
        axes.set_ylabel("kHz")
        axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("s")
    figure.savefig(path, metadata={"Software": None})
