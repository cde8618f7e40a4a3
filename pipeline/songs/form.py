"""The form of a song: which sections, how many bars each, which chord in each bar."""

from dataclasses import dataclass

import numpy as np

from pipeline.songs.faults import FormFault
from pipeline.songs.score import Part
from pipeline.songs.theory import BLUES, PROGRESSIONS, Chord, Degree, Key
from pipeline.types import Label

FORMS: tuple[tuple[Label, ...], ...] = (
    ("intro", "verse", "chorus", "inst", "outro"),
    ("intro", "chorus", "verse", "chorus", "outro"),
    ("intro", "verse", "chorus", "inst", "chorus", "outro"),
    ("intro", "verse", "verse", "chorus", "inst", "outro"),
    ("intro", "chorus", "verse", "inst", "chorus", "outro"),
    ("intro", "verse", "pre-chorus", "chorus", "inst", "chorus", "outro"),
    ("intro", "verse", "chorus", "verse", "chorus", "outro"),
    ("intro", "verse", "chorus", "verse", "chorus", "inst", "outro"),
    ("intro", "verse", "chorus", "inst", "bridge", "chorus", "outro"),
    ("intro", "verse", "pre-chorus", "chorus", "bridge", "chorus", "outro"),
    ("intro", "verse", "pre-chorus", "chorus", "inst", "verse", "chorus", "outro"),
    ("intro", "verse", "chorus", "inst", "verse", "chorus", "chorus", "outro"),
    ("intro", "verse", "verse", "chorus", "verse", "chorus", "inst", "chorus", "outro"),
    ("intro", "verse", "chorus", "inst", "verse", "chorus", "bridge", "chorus", "outro"),
    ("intro", "verse", "pre-chorus", "chorus", "verse", "pre-chorus", "chorus", "bridge", "chorus", "outro"),
    ("intro", "verse", "pre-chorus", "chorus", "verse", "pre-chorus", "chorus", "inst", "bridge", "chorus", "outro"),
)
WITHOUT_CHORUS: tuple[tuple[Label, ...], ...] = (
    ("intro", "verse", "inst", "verse", "outro"),
    ("intro", "verse", "verse", "inst", "verse", "outro"),
    ("intro", "verse", "verse", "bridge", "verse", "outro"),
    ("intro", "verse", "inst", "verse", "bridge", "verse", "outro"),
    ("intro", "verse", "verse", "inst", "verse", "bridge", "verse", "outro"),
)
SHORTEST_BARS: dict[Label, int] = {
    "intro": 1, "verse": 2, "pre-chorus": 2, "chorus": 2, "bridge": 2, "inst": 1, "outro": 1,
}  # fmt: skip
LONGEST_BARS: dict[Label, int] = {
    "intro": 4, "verse": 8, "pre-chorus": 4, "chorus": 8, "bridge": 4, "inst": 4, "outro": 4,
}  # fmt: skip
SUNG: frozenset[Label] = frozenset({"verse", "pre-chorus", "chorus", "bridge"})
ENERGY: dict[Label, float] = {
    "intro": 0.4, "verse": 0.5, "pre-chorus": 0.7, "chorus": 1.0, "bridge": 0.6, "inst": 0.85, "outro": 0.45,
}  # fmt: skip
SWELL: dict[Label, tuple[float, float]] = {
    "pre-chorus": (0.0, 0.3), "intro": (-0.05, 0.25), "outro": (-0.3, 0.05), "bridge": (-0.1, 0.25),
}  # fmt: skip
FASTEST = 150.0  # beats a minute, ours
MINIMUM_BARS = sum(SHORTEST_BARS[label] for label in FORMS[0])


@dataclass(frozen=True, slots=True)
class Frame:
    """Tempo and number of bars, before the form is chosen."""

    tempo: float
    bars: int


def plan_frame(
    rng: np.random.Generator, tempo: tuple[float, float], seconds: tuple[float, float], meter: int = 4
) -> Frame:
    """A tempo near `tempo` and a number of whole bars that together last `seconds`; `ValueError` where no form fits."""
    low, high = seconds
    bar = meter * 60.0  # s at one beat a minute
    shortest = MINIMUM_BARS * bar / FASTEST
    if not 0 < low <= high or high < shortest:
        raise ValueError(f"no song lasts {low}..{high} s, the shortest form takes {shortest:.1f} s: ask for more")
    length = float(rng.uniform(max(low, shortest), high))
    wish = float(rng.uniform(*tempo))
    bars = max(MINIMUM_BARS, int(length * wish / bar))
    bars += bars * bar / length < tempo[0]
    return Frame(round(bars * bar / length, 3), bars)


Plan = list[tuple[Label, int]]


def plan_form(rng: np.random.Generator, bars: int, fault: FormFault = "") -> Plan:
    """Labels and bars, `bars` in all; long enough songs get a long form, longer ones more verses and choruses."""
    forms = WITHOUT_CHORUS if fault == "no_chorus" else FORMS
    if fault == "long_interlude":
        forms = tuple(form for form in forms if _gap(form) is not None)
    shortest = [_bars(form, SHORTEST_BARS) for form in forms]
    longest = [_bars(form, LONGEST_BARS) for form in forms]
    fitting = [i for i, _ in enumerate(forms) if shortest[i] * 1.6 <= bars <= longest[i]]
    index = fitting[int(rng.integers(len(fitting)))] if fitting else 0 if bars < longest[0] else len(forms) - 1
    form = forms[index]
    while _bars(form, LONGEST_BARS) < bars:
        more: tuple[Label, ...] = ("inst", "verse") if fault == "no_chorus" else ("verse", "chorus")
        form = (*form[:-1], *more, form[-1])
    return list(zip(form, _stretch(rng, form, bars), strict=True))


def _bars(form: tuple[Label, ...], table: dict[Label, int]) -> int:
    return sum(table[label] for label in form)


def _gap(form: tuple[Label, ...]) -> int | None:
    """Where a wordless section lies between sung ones."""
    return next((i for i in range(1, len(form) - 2) if form[i] == "inst" and form[i + 1] in SUNG), None)


def _stretch(rng: np.random.Generator, form: tuple[Label, ...], bars: int) -> list[int]:
    """Lengthen sections of the shortest form, equal labels together, two bars at a time where possible."""
    lengths = {label: SHORTEST_BARS[label] for label in form}
    count = {label: form.count(label) for label in form}
    while True:
        spare = bars - sum(lengths[label] * count[label] for label in lengths)
        open_ = [label for label in lengths if lengths[label] < LONGEST_BARS[label]]
        pairs = [label for label in open_ if 2 * count[label] <= spare and lengths[label] % 2 == 0]
        ones = [label for label in open_ if label not in SUNG and lengths[label] % 2 and spare >= count[label]]
        if not (pairs or ones):
            break
        weights = np.array([4.0 if label in SUNG else 1.0 for label in pairs] + [3.0 for _ in ones])
        label = (pairs + ones)[int(rng.choice(len(weights), p=weights / weights.sum()))]
        lengths[label] += 2 if label in pairs else 1
    result = [lengths[label] for label in form]
    loose = [len(form) - 1, *(i for i, label in enumerate(form[:-1]) if label not in SUNG)]
    loose = [i for i in loose if lengths[form[i]] < LONGEST_BARS[form[i]]] + loose
    for index in range(max(0, bars - sum(result))):  # what fits no label goes to single wordless sections
        result[loose[index % len(loose)]] += 1
    return result


def with_fault(rng: np.random.Generator, plan: Plan, fault: FormFault, bar: float) -> tuple[Plan, frozenset[int]]:
    """The plan with a form fault, and which sections are spoken; `bar` is the length of a bar in seconds.

    The song becomes longer: an intro of 38 to 50 s (the gate's limit is 30), an interlude of 54 to 68 s (45), speech
    in 28 to 38 % of the song (15), in stretches of at most 34 s, so that no other rule of the selection applies.
    """
    plan = list(plan)
    if fault == "long_intro":
        plan[0] = ("intro", int(np.ceil(rng.uniform(38.0, 50.0) / bar)))
    if fault == "long_interlude":
        index = _gap(tuple(label for label, _ in plan)) or 1
        plan[index] = ("inst", int(np.ceil(rng.uniform(54.0, 68.0) / bar)))
    return _with_speech(rng, plan, bar) if fault == "speech" else (plan, frozenset())


def _with_speech(rng: np.random.Generator, plan: Plan, bar: float) -> tuple[Plan, frozenset[int]]:
    """Spoken sections between two sung ones as far as there are such places, and before the outro."""
    share = float(rng.uniform(0.28, 0.38))
    missing = sum(bars for _, bars in plan) * share / (1 - share)
    most = max(1, int(34.0 / bar))
    places = [i for i in range(1, len(plan)) if plan[i][0] in SUNG and plan[i - 1][0] in SUNG]
    chosen = [int(i) for i in rng.permutation(places)] + [len(plan) - 1]
    inserted: dict[int, int] = {}
    for place in chosen:
        inserted[place] = int(np.ceil(missing if place == chosen[-1] else min(missing, most)))
        missing -= inserted[place]
        if missing <= 0:
            break
    spoken, out = set[int](), Plan()
    for index, section in enumerate(plan):
        if index in inserted:
            spoken.add(len(out))
            out.append(("inst", inserted[index]))
        out.append(section)
    return out, frozenset(spoken)


@dataclass(frozen=True, slots=True)
class Harmonics:
    """How a song colours its chords."""

    seventh: bool
    colour: str  # "", "sus4", "ninth" or "sixth"
    share: float  # of the chords that get the colour
    blues: bool  # twelve bars


def plan_parts(
    rng: np.random.Generator,
    plan: Plan,
    key: Key,
    harmonics: Harmonics,
    meter: int = 4,
    spoken: frozenset[int] = frozenset(),
) -> tuple[Part, ...]:
    """Chords for every bar: one progression per function, the same in every verse and in every chorus."""
    pools = PROGRESSIONS[key.mode]
    chosen = {name: pool[int(rng.integers(len(pool)))] for name, pool in pools.items()}
    if harmonics.blues:
        chosen["verse"] = BLUES[key.mode]
    source = {"intro": str(rng.choice(["verse", "chorus"])), "inst": str(rng.choice(["verse", "chorus", "chorus"])),
              "outro": "chorus"}  # fmt: skip
    chords = {name: _chords(rng, degrees, key, harmonics) for name, degrees in chosen.items()}
    energy = {label: float(np.clip(level + rng.normal(0, 0.06), 0.2, 1.0)) for label, level in ENERGY.items()}
    energy["chorus"] = max(energy["chorus"], 0.85, energy["verse"] + 0.3)
    swell = {label: float(rng.uniform(*SWELL.get(label, (-0.08, 0.08)))) for label in ENERGY}
    half = sum(bars for _, bars in plan) / 3
    parts: list[Part] = []
    bar = 0
    for index, (label, length) in enumerate(plan):
        pattern = chords[source.get(label, label)]
        own = tuple(pattern[i % len(pattern)] for i in range(length))
        own = (*own[:-1], key.chord(1)) if index == len(plan) - 1 else own  # the song ends on the tonic triad
        if index in spoken:
            parts.append(Part(label, bar, length, own, 0.25, False, meter, 0.0, True))
        else:
            level = energy[label] - 0.12 * (label == "verse" and bar < half)
            parts.append(Part(label, bar, length, own, level, label in SUNG, meter, swell[label]))
        bar += length
    return tuple(parts)


def _chords(rng: np.random.Generator, degrees: tuple[Degree, ...], key: Key, harmonics: Harmonics) -> tuple[Chord, ...]:
    plain = [key.named(degree, harmonics.seventh) for degree in degrees]
    return tuple(key.coloured(c, harmonics.colour) if rng.random() < harmonics.share else c for c in plain)
