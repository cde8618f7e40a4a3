"""Rendering: files, repeatability, what is heard. Needs the extra `songs`; missing, these skip, but fail under CI."""

import csv
import hashlib
import importlib.util
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from pipeline.errors import BackendUnavailable
from pipeline.songs import extra
from pipeline.songs.lyrics import bank
from pipeline.songs.render import (
    render_instrumental,
    render_library,
    render_song,
    render_speech,
    split_of,
    write_manifest,
)
from pipeline.songs.singers import BASES
from pipeline.songs.truth import read_truth
from pipeline.songs.voice import Phone, Vocabulary, analyse, cache_folder, load, nuclei, speak

PACKAGES = ("espeakng_loader", "pretty_midi", "pyworld", "tinysoundfont")
missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
needs_extra = pytest.mark.skipif(bool(missing) and os.environ.get("CI") != "true", reason=f"extra songs: no {missing}")
SHORT = (12.0, 14.0)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of words of these tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BACKLINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield cache_folder()


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    return render_song(11, tmp_path_factory.mktemp("songs"), SHORT)


def _load(path):
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    assert rate == 48_000
    assert samples.shape[1] == 2
    return samples.astype(int)


def _hashes(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@needs_extra
def test_stems_sum_to_the_mix_sample_for_sample(song):
    vocal, band, mix = (_load(path) for path in (song.vocal, song.accompaniment, song.mix))
    assert np.array_equal(vocal + band, mix)
    assert np.abs(mix).max() <= 0.9 * 32767
    assert len(mix) == read_truth(song.truth).samples


@needs_extra
def test_the_frozen_version_sounds_as_it_always_did(song):
    """Version 3 is the one of the frozen test set; RMS of every second, with room for another machine's rounding."""
    frozen = {
        song.vocal: [0.0, 0.0, 1414.6, 2366.0, 2228.2, 2341.8, 2962.0, 3222.6, 9.8, 0.0, 0.0, 0.0, 0.0],
        song.accompaniment: [2702.2, 2858.1, 2635.4, 2013.8, 2352.7, 3692.4, 4736.9, 4778.0, 5736.3, 3621.4,
                             1017.9, 2591.1, 939.2],
    }  # fmt: skip
    for path, levels in frozen.items():
        samples = _load(path)
        assert len(samples) == 668_548
        assert [_rms(samples, second, second + 1) for second in range(13)] == pytest.approx(levels, rel=0.005, abs=0.5)


@needs_extra
def test_the_voice_is_silent_where_nobody_sings_and_heard_where_somebody_does(song):
    truth, vocal = read_truth(song.truth), _load(song.vocal)
    loud = [_rms(vocal, note.start, note.end) for note in truth.notes]
    intro = next(section for section in truth.sections if section.label == "intro")
    assert min(loud) > 200
    assert _rms(vocal, intro.start, intro.end - 0.6) == 0  # a breath may sound just before the first line


@needs_extra
def test_the_same_seed_gives_the_same_bytes_in_any_process(song, tmp_path):
    render_library(tmp_path, 2, seed=10, seconds=SHORT, workers=2)
    assert _hashes(tmp_path / "song-11") == _hashes(song.folder)
    assert not set(_hashes(tmp_path / "song-10").values()) & set(_hashes(song.folder).values())


@needs_extra
def test_a_cached_word_is_the_analysed_one(tmp_path):
    learned, again = Vocabulary("en-us+f2"), Vocabulary("en-us+f2")
    learned.learn({"river", "moon"}, tmp_path)
    again.learn({"river"}, tmp_path)
    (utterance,) = speak(("river",), "en-us+f2", 140, pitch_range=0)
    for word in (learned["river"], again["river"]):
        fresh = analyse(utterance)
        assert (word.rate, word.phones, word.end) == (fresh.rate, fresh.phones, fresh.end)
        for name in ("voiced", "spectrum", "aperiodicity"):
            assert np.array_equal(getattr(word, name), getattr(fresh, name))
            assert getattr(word, name).dtype == getattr(fresh, name).dtype
    assert "moon" not in again.known


@needs_extra
def test_a_torn_cache_file_is_analysed_anew_and_an_unwritable_folder_is_no_error(tmp_path):
    Vocabulary("en-us+f2").learn({"moon"}, tmp_path)
    (path,) = tmp_path.glob("*/*/moon.npz")
    path.write_bytes(path.read_bytes()[:2000])
    assert load(path) is None
    Vocabulary("en-us+f2").learn({"moon"}, tmp_path)
    assert load(path) is not None
    (tmp_path / "file").write_text("in the way")
    words = Vocabulary("en-us+f2")
    words.learn({"moon"}, tmp_path / "file")
    assert words["moon"].end > 0


@needs_extra
def test_a_song_with_speech_in_it_says_when_and_sounds_then(tmp_path):
    spoken = render_song(12, tmp_path, SHORT, fault="speech")
    truth = read_truth(spoken.truth)
    assert spoken.folder.name == "song-speech-12"
    assert truth.fault == "speech"
    assert sum(s.end - s.start for s in truth.speech) / truth.duration > 0.15
    vocal = _load(spoken.vocal)
    assert min(_rms(vocal, s.start, s.end) for s in truth.speech) > 200


def test_faults_are_of_songs(tmp_path):
    with pytest.raises(ValueError, match="one of songs, not of kind 'speech'"):
        render_library(tmp_path, 1, kind="speech", fault="no_chorus")


@needs_extra
def test_a_library_is_finished_once_and_lists_what_it_has(song, tmp_path):
    folder = song.folder.parent
    calls = []
    before = song.truth.stat().st_mtime_ns
    manifest = render_library(folder, 1, 11, "song", lambda done, count: calls.append((done, count)), seconds=SHORT)
    assert not calls
    assert song.truth.stat().st_mtime_ns == before
    (row,) = csv.DictReader(manifest.read_text(encoding="utf-8").splitlines())
    assert (row["path"], row["split"]) == ("song-11/mix.flac", "test")
    assert (row["vocal"], row["accompaniment"]) == ("song-11/vocal.flac", "song-11/accompaniment.flac")
    assert all(row[name] for name in ("artist", "text", "licence"))


def test_a_quarter_of_the_songs_are_test_songs_and_an_eighth_validation():
    splits = [split_of(seed) for seed in range(1000, 1080)]
    assert (splits.count("test"), splits.count("val")) == (20, 10)
    assert all("test" in splits[i : i + 4] for i in range(76))


def test_unfinished_and_outdated_folders_are_not_listed(tmp_path):
    (tmp_path / "song-1").mkdir()
    (tmp_path / "song-1" / "mix.flac").write_bytes(b"half a file")
    (tmp_path / "song-2").mkdir()
    (tmp_path / "song-2" / "truth.json").write_text('{"renderer_version": 0}', encoding="utf-8")
    assert len(write_manifest(tmp_path).read_text(encoding="utf-8").splitlines()) == 1


@needs_extra
def test_podcasts_and_instrumentals_have_one_silent_stem(tmp_path):
    speech, tune = render_speech(3, tmp_path, (8.0, 14.0)), render_instrumental(3, tmp_path, SHORT)
    assert not _load(speech.accompaniment).any()
    assert not _load(tune.vocal).any()
    assert 8 < read_truth(speech.truth).duration < 16
    assert (read_truth(speech.truth).kind, read_truth(tune.truth).kind) == ("speech", "instrumental")
    assert read_truth(tune.truth).notes == ()
    assert read_truth(speech.truth).words


@needs_extra
def test_a_word_sounds_the_same_whatever_was_said_before():
    (alone,) = speak(("river",), "en-us+f2", 140)
    time.sleep(1.1)  # espeak-ng would seed its noise by the second
    *_, late = speak(("something", "else", "river"), "en-us+f2", 140)
    assert np.array_equal(alone.samples, late.samples)
    assert [name for _, name in alone.phones if name] == ["r", "I", "v", "3"]


@needs_extra
@pytest.mark.parametrize("singer", BASES[2:5], ids=lambda singer: singer.name)
def test_every_word_has_as_many_vowels_as_syllables(singer):
    words = bank().vocabulary
    spoken = speak(tuple(word.text for word in words), singer.voice, 140, pitch_range=0)
    for word, utterance in zip(words, spoken, strict=True):
        phones = tuple(Phone(name, float(sample)) for sample, name in utterance.phones if name)
        assert len(nuclei(phones, len(word.syllables))) == len(word.syllables), (word.text, phones)


def test_a_missing_package_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(BackendUnavailable, match=r"pyworld.*backline\[songs\].*--no-deps"):
        extra.require("pyworld")


def test_importing_the_renderer_loads_no_optional_package():
    code = "import sys, pipeline.songs.render; print(sorted(set(sys.modules) & {%s}))" % repr(PACKAGES)[1:-1]  # noqa: UP031
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _rms(samples, start, end):
    piece = samples[int(start * 48_000) : int(end * 48_000)]
    return float(np.sqrt(np.mean(np.square(piece.astype(float)))))
