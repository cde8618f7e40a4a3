"""Every rule of selection, by name."""

from dataclasses import replace

import pytest

from pipeline.detection.stage import Detection
from pipeline.quality.stage import Quality
from pipeline.selection import (
    GateConfig,
    SelectionConfig,
    Verdict,
    intro_seconds,
    longest_interlude,
    passes_gate,
    select,
)
from pipeline.separation.artifacts import Artifacts
from pipeline.structure.stage import Structure
from pipeline.types import Label, Section

FORM: tuple[tuple[Label, float], ...] = (
    ("intro", 8),
    ("verse", 30),
    ("chorus", 30),
    ("inst", 10),
    ("chorus", 30),
    ("outro", 8),
)


def structure(*form: tuple[Label, float]) -> Structure:
    sections, start = [], 0.0
    for label, seconds in form:
        sections.append(Section(start, start + seconds, label))
        start += seconds
    return Structure(tuple(sections), (), (), 120.0, "C major")


def quality(*scores: float) -> Quality:
    return Quality(scores=dict(zip("abcde", scores, strict=True)), mean=sum(scores) / 5)


SONG = Detection(kind="song", singing=0.7, speech=0.0, music=1.0, reason="", vocal_active=())
CLEAN = Artifacts(
    vocal_leak_db=-30.0,
    accompaniment_leak_db=-30.0,
    reconstruction_db=-60.0,
    vocal_silent_share=0.3,
    accompaniment_silent_share=0.0,
    reasons=(),
)
GOOD = quality(4, 4, 4, 4, 4)
CONFIG = SelectionConfig()


def verdict(config=CONFIG, detection=SONG, scores=GOOD, artifacts=CLEAN, form=FORM) -> Verdict:
    return select(config, detection, scores, artifacts, structure(*form))


def test_a_good_song_is_for_stage_2_without_a_reason():
    assert verdict() == Verdict("stage2", ())
    assert verdict().keep


@pytest.mark.parametrize("kind", ["speech", "instrumental"])
def test_what_is_no_song_is_rejected_whatever_its_scores(kind):
    result = verdict(detection=replace(SONG, kind=kind))
    assert (result.stage, result.reasons, result.keep) == ("rejected", (kind,), False)


def test_below_the_gate_a_song_is_stage_1_material_by_default():
    assert verdict(scores=quality(3, 3, 3, 3, 3)) == Verdict("stage1", ("gate_mean",))


def test_gate_scope_all_rejects():
    config = SelectionConfig(gate=GateConfig(scope="all"))
    assert verdict(config, scores=quality(3, 3, 3, 3, 3)) == Verdict("rejected", ("gate_mean",))


def test_a_score_on_the_threshold_passes():
    assert passes_gate(GateConfig(), quality(3.5, 3.5, 3.5, 3.5, 3.5))
    assert not passes_gate(GateConfig(threshold=3.51), quality(3.5, 3.5, 3.5, 3.5, 3.5))


def test_rule_each_looks_at_the_worst_score():
    uneven = quality(5, 5, 5, 5, 3)
    assert passes_gate(GateConfig(rule="mean"), uneven)
    assert not passes_gate(GateConfig(rule="each"), uneven)
    assert verdict(SelectionConfig(gate=GateConfig(rule="each")), scores=uneven).reasons == ("gate_each",)


def test_separation_artefacts_keep_a_song_out_of_stage_2():
    bled = replace(CLEAN, reasons=("vocal in the accompaniment: -5.0 dB, limit -12.0",))
    assert verdict(artifacts=bled) == Verdict("stage1", ("artifacts",))
    assert verdict(SelectionConfig(artifacts="all"), artifacts=bled) == Verdict("rejected", ("artifacts",))


@pytest.mark.parametrize("stem", ["vocal", "accompaniment"])
def test_a_silent_stem_is_no_pair(stem):
    silent = replace(CLEAN, **{f"{stem}_silent_share": 0.99})
    assert verdict(artifacts=silent) == Verdict("rejected", (f"{stem}_silent",))


def test_long_intro_goes_to_review():
    assert verdict(form=(("intro", 31), *FORM[1:])) == Verdict("review", ("long_intro",))


def test_long_interlude_goes_to_review():
    assert verdict(form=(*FORM[:3], ("inst", 46), *FORM[4:])) == Verdict("review", ("long_interlude",))


def test_neighbouring_unsung_sections_count_as_one_interlude():
    assert longest_interlude(structure(*FORM[:3], ("inst", 23), ("silence", 23), *FORM[4:])) == 46


def test_a_long_outro_is_no_interlude():
    assert verdict(form=(*FORM[:5], ("outro", 60))).stage == "stage2"


def test_no_chorus_goes_to_review_unless_not_required():
    form = (("intro", 8), ("verse", 60), ("bridge", 20))
    assert verdict(form=form) == Verdict("review", ("no_chorus",))
    assert verdict(SelectionConfig(require_chorus=False), form=form).stage == "stage2"


def test_speech_mixed_in_goes_to_review():
    assert verdict(detection=replace(SONG, speech=0.2)) == Verdict("review", ("speech_mixed_in",))


def test_doubtful_songs_can_be_used_without_a_person():
    form = (("verse", 60),)
    assert verdict(SelectionConfig(doubtful="stage1"), form=form) == Verdict("stage1", ("no_chorus",))
    assert verdict(SelectionConfig(doubtful="stage2"), form=form) == Verdict("stage2", ("no_chorus",))


def test_a_flaw_outranks_a_doubt_and_all_reasons_are_given():
    result = verdict(scores=quality(3, 3, 3, 3, 3), form=(("intro", 40), ("verse", 30)))
    assert result == Verdict("stage1", ("gate_mean", "long_intro", "no_chorus"))


def test_a_song_without_voice_is_all_intro():
    assert intro_seconds(structure(("intro", 10), ("inst", 50))) == 60
    assert longest_interlude(structure(("intro", 10), ("inst", 50))) == 0
    assert intro_seconds(structure()) == 0
