"""One score as a small picture: where the model stands between its floors and its ceiling.

Conventions: SVG text for the page, colours from its CSS variables; right is always better (for a check: more).
"""

from collections.abc import Callable
from html import escape

from model.evaluation.results import SYSTEM_NAMES, Score

WIDTH, HEIGHT, MARGIN = 190, 26, 8  # pixels
MIDDLE = HEIGHT / 2


def strip(score: Score) -> str:
    """The strip of one score, or an empty text where there is nothing to stand between."""
    rest = (score.ceiling, score.truth, score.chance)
    others = [floor.value for floor in score.floors] + [value for value in rest if value is not None]
    if not others:
        return ""
    ends = [score.interval.low, score.interval.high] if score.interval else []
    place = _scale([score.value, *others, *ends], flipped=score.better == "lower")
    marks = [f'<line class="rail" x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{MIDDLE}" y2="{MIDDLE}"/>']
    if score.chance is not None:
        marks.append(_tick("chance", place(score.chance), "chance level", score.chance))
    marks += [_tick("floor", place(f.value), SYSTEM_NAMES.get(f.name, f.name), f.value) for f in score.floors]
    if score.ceiling is not None:
        marks.append(_tick("ceiling", place(score.ceiling), SYSTEM_NAMES["codec"], score.ceiling))
    if score.truth is not None:
        marks.append(_diamond(place(score.truth), score.truth))
    if score.interval is not None:
        low, high = sorted((place(score.interval.low), place(score.interval.high)))
        marks.append(f'<line class="reach" x1="{low:.1f}" x2="{high:.1f}" y1="{MIDDLE}" y2="{MIDDLE}"/>')
    x = f"{place(score.value):.1f}"
    marks.append(f'<circle class="model" cx="{x}" cy="{MIDDLE}" r="4.5">{_title("model", score.value)}</circle>')
    return f'<svg class="strip" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(marks)}</svg>'


def _scale(values: list[float], flipped: bool) -> Callable[[float], float]:
    """Value -> x; the lowest and highest of `values` lie at the margins."""
    low, high = min(values), max(values)

    def place(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return MARGIN + (1 - share if flipped else share) * (WIDTH - 2 * MARGIN)

    return place


def _tick(kind: str, x: float, name: str, value: float) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{HEIGHT - 4}">{_title(name, value)}</line>'


def _diamond(x: float, value: float) -> str:
    path = f"M{x:.1f} {MIDDLE - 5}l5 5l-5 5l-5-5z"
    return f'<path class="truth" d="{path}">{_title(SYSTEM_NAMES["truth"], value)}</path>'


def _title(name: str, value: float) -> str:
    return f"<title>{escape(name)}: {value:.3g}</title>"
