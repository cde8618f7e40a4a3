"""Structure of signals whose beats, key and form are known."""

import subprocess
import sys
from itertools import pairwise

import mir_eval
import numpy as np
import pytest

from pipeline.errors import BackendUnavailable, BadInput
from pipeline.structure.stage import NOTES, Structure, StructureConfig, build, weights_sha256
from pipeline.types import Audio, Label, Span

RATE = 22_050
BPM = 104.0
BAR = 4 * 60 / BPM
# section -> bars, chords (semitones above the tonic, minor third?), level of the band, octave of the lead voice
CHORDS = {
    "intro": ((0, False), (0, False)),
    "verse": ((0, False), (9, True)),
    "chorus": ((5, False), (7, False)),
    "bridge": ((2, True), (4, True)),
    "outro": ((0, False), (0, False)),
}
LEVEL = {"intro": 0.3, "verse": 0.5, "chorus": 1.0, "bridge": 0.4, "outro": 0.3}
FORM: tuple[tuple[Label, int], ...] = (
    ("intro", 4), ("verse", 8), ("chorus", 8), ("verse", 8), ("chorus", 8), ("bridge", 4), ("chorus", 8), ("outro", 4),
)  # fmt: skip
SUNG = ("verse", "chorus", "bridge")


def tone(frequency: float, seconds: float, partials: int, decay: float) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    return sum(np.sin(2 * np.pi * frequency * k * t) / k for k in range(1, partials + 1)) * np.exp(-decay * t)


def bar(section: str, index: int, tonic: int, rng: np.random.Generator) -> np.ndarray:
    """One bar: chord on every beat, bass and kick on the first, snare-like noise on two and four."""
    shift, minor = CHORDS[section][index % len(CHORDS[section])]
    root = 60 + tonic + shift
    out = np.zeros(int(BAR * RATE) + RATE)

    def add(start: float, sound: np.ndarray) -> None:
        begin = int(start * RATE)
        out[begin : begin + len(sound)] += sound[: len(out) - begin]

    for beat in range(4):
        start = beat * BAR / 4
        for note in (root, root + (3 if minor else 4), root + 7):
            add(start, 0.06 * tone(440 * 2 ** ((note - 69) / 12), BAR / 4, 5 if section == "chorus" else 2, 3.0))
        if beat in (1, 3):
            hit = rng.standard_normal(RATE // 8) * np.exp(-40 * np.arange(RATE // 8) / RATE)
            add(start, (0.15 if section == "chorus" else 0.05) * hit)
        if section == "chorus":
            hat = rng.standard_normal(RATE // 20) * np.exp(-80 * np.arange(RATE // 20) / RATE)
            add(start, 0.1 * hat)
            add(start + BAR / 8, 0.1 * hat)
    add(0, 0.5 * tone(440 * 2 ** ((root - 24 - 69) / 12), BAR, 3, 2.0))
    add(0, 0.5 * tone(55, 0.2, 1, 20.0))
    return LEVEL[section] * out


def song(parts=FORM, tonic: int = 2) -> Audio:
    rng = np.random.default_rng(0)
    total = sum(bars for _, bars in parts)
    samples = np.zeros(int(total * BAR * RATE) + 2 * RATE)
    place = 0
    for section, bars in parts:
        for index in range(bars):
            begin = int(place * BAR * RATE)
            sound = bar(section, index, tonic, rng)
            samples[begin : begin + len(sound)] += sound
            place += 1
    return Audio((0.3 * samples[: int(total * BAR * RATE)])[None].astype(np.float32), RATE)


def spans(parts=FORM) -> tuple[tuple[float, float, Label], ...]:
    starts = np.cumsum([0, *(bars for _, bars in parts)]) * BAR
    return tuple((a, b, label) for (a, b), (label, _) in zip(pairwise(starts), parts, strict=True))


def sung(parts=FORM) -> tuple[Span, ...]:
    return tuple(Span(a + 0.5, b - 0.5) for a, b, label in spans(parts) if label in SUNG)


@pytest.fixture(scope="module")
def extractor():
    return build(StructureConfig())


@pytest.fixture(scope="module")
def analysed(extractor) -> Structure:
    return extractor(song(), sung())


def beat_f(true, found) -> float:
    trimmed = (mir_eval.beat.trim_beats(np.asarray(times, dtype=float)) for times in (true, found))
    return float(mir_eval.beat.f_measure(*trimmed))


def test_beats_and_tempo(analysed):
    true = np.arange(0, song().duration, BAR / 4)
    assert beat_f(true, analysed.beats) > 0.95
    assert analysed.tempo == pytest.approx(BPM, rel=0.01)


def test_downbeats_are_the_bars_first_beats(analysed):
    true = np.arange(0, song().duration, BAR)
    assert set(analysed.downbeats) <= set(analysed.beats)
    assert beat_f(true, analysed.downbeats) > 0.9


def test_sections_tile_the_song(analysed):
    assert analysed.sections[0].start == 0
    assert analysed.sections[-1].end == pytest.approx(song().duration)
    assert all(a.end == b.start and a.start < a.end for a, b in pairwise(analysed.sections))


def boundary_f(structure: Structure, parts=FORM) -> float:
    true = np.array([(a, b) for a, b, _ in spans(parts)])
    found = np.array([(s.start, s.end) for s in structure.sections])
    return float(mir_eval.segment.detection(true, found, window=3.0, trim=True)[2])


def test_sections_of_a_known_form(analysed):
    """Where they begin; what they are called was learned on songs, which these tones are not."""
    assert boundary_f(analysed) > 0.8
    assert analysed.sections[0].label == "intro"
    assert analysed.sections[-1].label == "outro"


def test_it_works_without_knowing_where_somebody_sings(extractor):
    structure = extractor(song())
    assert boundary_f(structure) > 0.8


def test_the_same_song_gives_the_same_structure(extractor, analysed):
    assert extractor(song(), sung()) == analysed


@pytest.mark.parametrize("tonic", [0, 3, 7, 10])
def test_the_key_of_a_song(extractor, tonic):
    assert extractor(song((*FORM[:3], FORM[-1]), tonic)).key == f"{NOTES[tonic]} major"


@pytest.mark.parametrize("seconds", [2.5, 10.0])
def test_short_audio_is_one_or_more_sections(extractor, seconds):
    clip = Audio(song().samples[:, : int(seconds * RATE)], RATE)
    structure = extractor(clip)
    assert (structure.sections[0].start, structure.sections[-1].end) == (0, pytest.approx(clip.duration))


@pytest.mark.parametrize(
    "samples", [np.zeros((2, 10 * RATE)), 0.5 * np.ones((1, 10 * RATE))], ids=["silence", "constant"]
)
def test_a_signal_without_pulse_has_no_beats_and_no_chorus(extractor, samples):
    structure = extractor(Audio(samples.astype(np.float32), RATE))
    assert (structure.beats, structure.downbeats, structure.tempo) == ((), (), 0.0)
    assert "chorus" not in {s.label for s in structure.sections}


def test_a_moment_of_audio_is_refused_by_name(extractor):
    with pytest.raises(BadInput, match="needs 2 s") as error:
        extractor(Audio(np.zeros((1, RATE), np.float32), RATE))
    assert error.value.reason == "too_short"


def test_weights_are_named_by_their_hash(extractor):
    assert extractor.weights_sha256 == weights_sha256(StructureConfig())
    assert extractor.licence == "Apache-2.0"


def test_missing_weights_are_named_with_the_remedy(tmp_path):
    config = StructureConfig(weights=str(tmp_path / "none.safetensors"))
    for load in (build, weights_sha256):
        with pytest.raises(BackendUnavailable, match=r"set structure\.weights"):
            load(config)


@pytest.mark.songs
def test_rendered_songs(extractor, tmp_path):
    """`backline bench stages` measures it on the frozen songs; these seeds are none of the trained ones."""
    pytest.importorskip("pretty_midi")
    from flows.bench.structure import figures
    from pipeline.audio import decode
    from pipeline.songs.render import render_song
    from pipeline.songs.truth import read_truth

    found = []
    for seed in (530_003, 530_008, 530_012):
        song = render_song(seed, tmp_path)
        found.append(figures(read_truth(song.truth), extractor(decode(str(song.mix)))))
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    assert mean["beat F"] > 0.9
    assert mean["boundary F, 3 s"] > 0.7
    assert mean["label accuracy, 8 labels"] > 0.5
    assert mean["key, MIREX weighted"] >= 0.5


def test_the_stage_module_imports_nothing_heavy():
    code = (
        "import sys, pipeline.structure.stage; print(sorted({'librosa', 'torch', 'scipy', 'numba'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
