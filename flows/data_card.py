"""The data card of a dataset: what is in it, where it came from, under which licences, and what was left out.

Written from the ledger alone and without dates, so the same build writes the same card.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from math import isnan

from jinja2 import Environment, StrictUndefined

from flows.provenance import Maker, bound, makers
from flows.shards import tracks
from flows.stages.context import Context, Rows, value_of
from flows.stages.tokens import TokenFacts
from flows.tally import StageStatistics
from pipeline.records.groups import read_groups
from pipeline.records.schema import SCHEMA_VERSION

SPLEETER = "Stems were separated with the Spleeter 2-stem weights; what it left in the wrong stem is in them."
LIMITS = {  # (stage, backend) -> what whoever trains on the set has to know
    (
        "quality",
        "signal",
    ): "Quality scores of the backend `signal` are measurements on a 1-5 scale, not SongEval scores.",
    ("separation", "spleeter"): SPLEETER,
    ("separation", "spleeter+refiner"): SPLEETER,
    (
        "structure",
        "tcn",
    ): "Section labels of the backend `tcn` were learnt on songs that Backline rendered: on other music, a guess.",
    (
        "annotation",
        "musicnn",
    ): "Captions of the backend `musicnn` come from its tags and a head that knows 22 rendered styles.",
}


def card(
    context: Context, counts: Sequence[StageStatistics], samples: Mapping[str, int], made_by: Sequence[Maker] = ()
) -> str:
    """The card as Markdown with a YAML front matter; `made_by` empty = the stages' backends."""
    made_by = made_by or makers(counts)
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # Markdown
    environment.filters["reasons"] = lambda counted: ", ".join(f"{r} {n}" for r, n in sorted(counted.items()))
    songs = [track for track, _ in tracks(context)]
    used = {(count.stage, backend) for count in counts for backend, _, _ in count.backends}
    template = files("flows").joinpath("data_card.md.jinja").read_text("utf-8")
    return environment.from_string(template).render(
        name=context.recipe.name,
        version=SCHEMA_VERSION,
        samples=samples,
        size=_size(sum(samples.values())),
        songs=len(songs),
        hours=sum(track.duration for track in songs) / 3600,
        places=Counter(_place(track.uri) for track in songs),
        licences=Counter(track.licence for track in songs),
        kin=kin(context),
        duplicates=context.recipe.selection.duplicates,
        counts=counts,
        made_by=made_by,
        agreement=_agreement(context),
        limits=[line for which, line in LIMITS.items() if which in used] + bound(made_by),
    )


def kin(context: Context) -> tuple[int, int, int]:
    """Recordings that came as several files, their further files, and those of them that conflict with a split."""
    followers = [member for member in read_groups(context.root).members.values() if member.follows]
    conflicts = sum(member.conflict != "" for member in followers)
    return len({member.leader for member in followers}), len(followers), conflicts


def _place(uri: str) -> str:
    """The server or bucket of a URL; local paths are nobody else's business."""
    return "/".join(uri.split("/")[:3]) if "://" in uri else "local files"


def _agreement(context: Context) -> float | None:
    """Mean share of codes that a slice has in common with the encoding of the cropped audio; None without codes."""
    told = [value_of(rows, "tokenization", TokenFacts).slice_agreement for _, rows in tracks(context) if _coded(rows)]
    known = [share for share in told if not isnan(share)]
    return sum(known) / len(known) if known else None


def _coded(rows: Rows) -> bool:
    return "tokenization" in rows and rows["tokenization"].status == "ok"


def _size(samples: int) -> str:
    """The hub's size category."""
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if samples < limit:
            return name
    return "n>1M"
