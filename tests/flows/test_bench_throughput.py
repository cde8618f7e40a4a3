"""The throughput bench compares like with like, in turn; the fingerprint's bench finds what it made."""

from pathlib import Path

import numpy as np
import pytest

from flows.bench.copies import CHANGES, fingerprints, least_errors, others, recall
from flows.bench.throughput import Case, cases_of, compared, librosa_gain, song, write
from pipeline.loudness import LoudnessConfig, gain_db
from pipeline.types import Audio


def test_ratios_are_theirs_over_ours_and_the_order_changes() -> None:
    calls: list[str] = []

    def work(name: str, size: int) -> None:
        calls.append(name)
        np.sort(np.random.default_rng(0).random(size))

    case = Case("sorting", lambda: work("ours", 200_000), lambda: work("theirs", 2_000_000))
    found = compared(case, 10.0, 4)
    assert found.passed
    assert 4 < found.ratio < 30
    assert found.low < found.ratio < found.high
    assert found.ours_speed > found.theirs_speed
    assert calls == ["theirs", "ours", "ours", "theirs"] * 2 + ["theirs", "ours"]
    with pytest.raises(ValueError, match="no interval"):
        compared(case, 10.0, 1)


@pytest.mark.filterwarnings("ignore:.*slated for removal:DeprecationWarning")  # audioread, which librosa imports
def test_both_ways_give_the_same_audio_and_level(tmp_path: Path) -> None:
    audio = song(6.0)
    assert librosa_gain(audio.samples) == pytest.approx(gain_db(audio, LoudnessConfig()), abs=0.1)
    cases = {case.what: case for case in cases_of(tmp_path, audio)}
    for name in ("decode flac", "decode flac to 48 kHz stereo"):
        ours, theirs = cases[name].ours(), cases[name].theirs()
        assert isinstance(ours, Audio)
        assert isinstance(theirs, tuple)
        np.testing.assert_allclose(ours.samples, theirs[0], atol=1e-4)
    heard = cases["input of detection"]
    ours, theirs = heard.ours(), heard.theirs()
    assert isinstance(ours, Audio)
    np.testing.assert_allclose(ours.samples[0], theirs, atol=1e-3)
    spectrum, (mean, floor) = cases["spectra of quality"].ours(), cases["spectra of quality"].theirs()
    np.testing.assert_allclose(10 * np.log10(spectrum.mean), 10 * np.log10(mean), atol=0.5)
    assert np.corrcoef(np.log(spectrum.floor[9:1000]), np.log(floor[9:1000]))[0, 1] > 0.9


def test_copies_of_a_song_are_found_and_no_other_song_is(tmp_path: Path) -> None:
    paths = []
    for seed in (0, 1):
        audio = song(16.0)
        samples = audio.samples if seed == 0 else np.ascontiguousarray(audio.samples[:, ::-1])
        paths.append(tmp_path / f"{seed}.flac")
        write(paths[-1], Audio(samples, audio.sample_rate), "FLAC", "PCM_16")
    known, spent = fingerprints(paths, lambda done, total: None)
    told = others(known, spent)
    assert (told.songs, told.pairs, told.false_matches, told.exhaustive_pairs) == (2, 1, 0, 1)
    assert told.exhaustive_least > 0.3
    short = {name: CHANGES[name] for name in ("rate_32k", "gain_-14_dB")}
    found = list(recall(paths, 1, known, lambda done, total: None, short))
    assert [(result.change, result.n, result.found) for result in found] == [("rate_32k", 1, 1), ("gain_-14_dB", 1, 1)]


def test_the_least_errors_of_a_song_and_itself_cut_are_none() -> None:
    words = np.random.default_rng(0).integers(1, 2**32, 400, dtype=np.uint32)
    assert least_errors(words, words[100:]) == pytest.approx(0.0, abs=1e-9)
    assert least_errors(words, words[::-1]) > 0.4
