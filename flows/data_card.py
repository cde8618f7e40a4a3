"""The data card of a dataset: what is in it, where it came from, under which licences, and what was left out.

Written from the ledger alone and without dates, so the same build writes the same card.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from jinja2 import Environment, StrictUndefined

from flows.funnel import StageCount
from flows.shards import tracks
from flows.stages.context import Context
from pipeline.records.schema import SCHEMA_VERSION

TEMPLATE = """\
---
pretty_name: {{ name }}
license: other
task_categories: [audio-to-audio]
tags: [music, vocal-to-accompaniment, audio-tokens, webdataset]
size_categories: ["{{ size }}"]
---
# {{ name }}

Vocal and accompaniment tokens for masked-diffusion training, built by Backline with the recipe `{{ name }}` (shard contract
version {{ version }}). Each sample is one song, or one stretched or pitched copy of it: two streams of 25 Hz codes, prefix vectors of
reference windows and captions, and a JSON record.

## What is in it
| shard set | samples |
|---|---|
{% for split, count in samples|dictsort -%}
| {{ split }} | {{ count }} |
{% endfor %}
{{ songs }} songs came in, {{ "%.2f"|format(hours) }} hours of audio.

## Sources and licences
| licence of the song, as its manifest states it | songs |
|---|---|
{% for licence, count in licences|dictsort -%}
| {{ licence or "not stated" }} | {{ count }} |
{% endfor %}
Whoever trains on this set answers for the rights in the songs.

## The funnel
| stage | songs seen | kept | rejected | quarantined | failed |
|---|---|---|---|---|---|
{% for c in counts -%}
| {{ c.stage }} | {{ c.seen }} | {{ c.ok }} | {{ c.rejected|reasons }} | {{ c.quarantined|reasons }} | {{ c.failed|reasons }} |
{% endfor %}
*Rejected*: a stage judged the song. *Quarantined*: the file can't be used. *Failed*: an error; the next build tries again.

## Backends
| stage | backend | weights (sha256) | licence of the weights | songs |
|---|---|---|---|---|
{% for c in counts %}{% for (backend, weights, licence), n in c.backends|dictsort -%}
| {{ c.stage }} | {{ backend }} | {{ weights[:16] or "none" }} | {{ licence or "none" }} | {{ n }} |
{% endfor %}{% endfor %}
## Known limits
{% for line in limits -%}
- {{ line }}
{% endfor -%}
"""

LIMITS = {
    "signal": "Quality scores of the backend `signal` are signal measurements on a 1-5 scale; they are not SongEval scores.",
    "spleeter": "Stems were separated with the Spleeter 2-stem weights; what they leave in the wrong stem is in the codes.",
    "selfsim": "Section labels of the backend `selfsim` come from repetition and level, not from a trained model.",
    "musicnn": "Captions of the backend `musicnn` are made from 50 tags.",
}


def card(context: Context, counts: Sequence[StageCount], samples: Mapping[str, int]) -> str:
    """The card as Markdown with a YAML front matter."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # Markdown
    environment.filters["reasons"] = lambda counted: ", ".join(f"{r} {n}" for r, n in sorted(counted.items()))
    songs = [track for track, _ in tracks(context)]
    used = {backend for count in counts for backend, _, _ in count.backends}
    return environment.from_string(TEMPLATE).render(
        name=context.recipe.name,
        version=SCHEMA_VERSION,
        samples=samples,
        size=_size(sum(samples.values())),
        songs=len(songs),
        hours=sum(track.duration for track in songs) / 3600,
        licences=Counter(track.licence for track in songs),
        counts=counts,
        limits=[line for backend, line in LIMITS.items() if backend in used],
    )


def _size(samples: int) -> str:
    """The hub's size category."""
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if samples < limit:
            return name
    return "n>1M"
