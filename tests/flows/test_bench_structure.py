"""The bench of structure, on truths and answers whose figures are known."""

from dataclasses import replace

import numpy as np
import pytest

from flows.bench.structure import FAULTS, MEASURES, Case, balanced_accuracy, figures, guess, most_frequent, rows
from pipeline.detection.stage import Detection
from pipeline.songs.truth import SectionTruth, Truth
from pipeline.structure.stage import Structure
from pipeline.types import Section

FORM = (("intro", 8.0), ("verse", 20.0), ("chorus", 20.0), ("inst", 8.0), ("chorus", 20.0), ("outro", 8.0))
SONG = Detection("song", 0.7, 0.0, 1.0, "", ())


def edges(form):
    ends = np.cumsum([seconds for _, seconds in form])
    return [(float(e - s), float(e), label) for (label, s), e in zip(form, ends, strict=True)]


def truth(form=FORM, fault="") -> Truth:
    sections = tuple(SectionTruth(*edge) for edge in edges(form))
    beats = tuple(np.arange(0, sections[-1].end, 0.6).tolist())
    return Truth(
        kind="song", seed=1, renderer_version=3, title="", artist="", licence="", duration=sections[-1].end,
        samples=1, asked_seconds=(60.0, 90.0), style="pop", text="", voice="", key="D minor", tempo=100.0,
        sections=sections, beats=beats, downbeats=beats[::4], chords=(), notes=(), words=(), lyrics="",
        instruments=(), fault=fault,
    )  # fmt: skip


def perfect(form=FORM) -> Structure:
    t = truth(form)
    return Structure(tuple(Section(*edge) for edge in edges(form)), t.beats, t.downbeats, 100.0, "D minor")


def test_the_right_answer_has_full_marks():
    assert figures(truth(), perfect()) == pytest.approx(dict.fromkeys(MEASURES, 1.0))


def test_each_figure_sees_its_own_mistake():
    right = perfect()
    late = tuple(Section(s.start + (s.start > 0), s.end + 1, s.label) for s in right.sections)
    found = figures(truth(), replace(right, sections=late, key="F major"))
    assert found["boundary F, 3 s"] == 1
    assert found["boundary F, 0.5 s"] == 0
    assert found["label accuracy, 8 labels"] == pytest.approx(1 - 5 / 84, abs=0.01)
    assert found["key, MIREX weighted"] == pytest.approx(0.3)  # the relative key
    halved = figures(truth(), replace(right, beats=right.beats[::2]))
    assert halved["beat F"] == pytest.approx(2 / 3, abs=0.02)
    assert halved["downbeat F"] == 1


def test_no_beats_are_no_marks():
    found = figures(truth(), replace(perfect(), beats=(), downbeats=()))
    assert (found["beat F"], found["downbeat F"]) == (0, 0)


def test_the_naive_answer():
    blind = guess(84.0, "chorus")
    assert (blind.sections[0].start, blind.sections[-1].end) == (0, 84.0)
    assert most_frequent([truth()]) == "chorus"
    assert figures(truth(), blind)["label accuracy, 8 labels"] == pytest.approx(40 / 84, abs=0.01)


def test_balanced_accuracy_is_the_mean_of_two_recalls():
    assert balanced_accuracy(np.array([[1, 1], [1, 0], [0, 0], [0, 0]], float)) == 0.75
    assert balanced_accuracy(np.array([[1, 1], [0, 1], [0, 1]], float)) == 0.5
    assert np.isnan(balanced_accuracy(np.array([[0, 0], [0, 1]], float)))


def faulty():
    """One song of each fault, each heard as it is."""
    return {
        "no_chorus": (("intro", 8.0), ("verse", 50.0), ("bridge", 20.0)),
        "long_intro": (("intro", 40.0), *FORM[1:]),
        "long_interlude": (*FORM[:3], ("inst", 60.0), *FORM[4:]),
        "speech": FORM,
    }


def test_faults_that_are_all_heard():
    cases = [Case(truth(), SONG, perfect()) for _ in range(3)]
    for fault, form in faulty().items():
        detection = replace(SONG, speech=0.3) if fault == "speech" else SONG
        cases.append(Case(truth(form, fault), detection, perfect(form)))
    found = {row.measure: row for row in rows(cases, 1.0)}
    assert len(found) == len(MEASURES) + len(FAULTS) + 1
    assert all(found[f"{name}, balanced accuracy"].value == 1 for name in FAULTS)
    assert found["form faults, mean, balanced accuracy"].value == 1
    assert found["beat F"].n == 3  # songs without a fault
    assert found["chorus absent, balanced accuracy"].n == len(cases)


def test_a_song_that_detection_calls_speech_counts_as_found():
    cases = [Case(truth(fault="speech"), replace(SONG, kind="speech"), perfect()), Case(truth(), SONG, perfect())]
    found = {row.measure: row.value for row in rows(cases, 1.0)}
    assert found["speech mixed in, balanced accuracy"] == 1
    assert "chorus absent, balanced accuracy" not in found  # no such song


def test_a_fault_that_nobody_hears_is_chance():
    cases = [Case(truth(), SONG, perfect()), Case(truth(fault="no_chorus"), SONG, perfect())]
    found = {row.measure: row.value for row in rows(cases, 1.0)}
    assert found["chorus absent, balanced accuracy"] == 0.5
