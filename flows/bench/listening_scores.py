"""Held-out songs under every arm of the listening experiment, in several processes; a line a song is kept."""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flows.bench.listening_arms import (
    ARMS,
    OTHER,
    TRUE,
    TWIN,
    TWIN_AGAIN,
    TWIN_OTHER,
    UNIGRAM,
    Held,
    song_nats,
    unigram_nats,
)
from flows.bench.listening_networks import MODEL, load
from flows.bench.listening_pairs import Pair, code_counts
from flows.bench.listening_songs import Progress, processes
from model.network import MaskPredictor
from pipeline.codec.codec import CODEBOOK_SIZE

SCORED = {  # network -> arm that it is given -> the arm's name
    MODEL: {arm: arm for arm in ARMS},
    TWIN: {TRUE: TWIN, OTHER: TWIN_OTHER},
    TWIN_AGAIN: {TRUE: TWIN_AGAIN},
}


@dataclass(frozen=True, slots=True)
class Scoring:
    """What songs are scored with."""

    networks: Mapping[str, Path]  # by name, the runs that trained them
    train: tuple[Pair, ...]  # whose codes the unigram counts
    crop_tokens: int
    draws: int  # masks of each crop
    seed: int  # of masks


def score_all(
    path: Path, scoring: Scoring, songs: Sequence[Held], workers: int, show: Progress
) -> dict[str, dict[str, float]]:
    """Song -> arm -> nats a token; a line a song in `path`, and lines that are there are not made again."""
    found: dict[str, dict[str, float]] = {}
    if path.exists():
        found = {line["song"]: line["nats"] for line in map(json.loads, path.read_text("utf-8").splitlines())}
    counts = code_counts(scoring.train, CODEBOOK_SIZE)
    todo = [song for song in songs if song.name not in found]
    for song, nats in _scored(todo, scoring, workers):
        found[song.name] = nats | {UNIGRAM: unigram_nats(counts, song)}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"song": song.name, "nats": found[song.name]}) + "\n")
        show("score", len(found), len(songs))
    return {song.name: found[song.name] for song in songs}


def _scored(songs: Sequence[Held], scoring: Scoring, workers: int) -> Iterator[tuple[Held, dict[str, float]]]:
    how = (scoring.crop_tokens, scoring.draws, scoring.seed)
    if workers <= 1:
        yield from ((song, _score(scoring.networks, song, *how)) for song in songs)
        return
    with processes(workers) as pool:
        doing = {pool.submit(_score, scoring.networks, song, *how): song for song in songs}
        yield from ((doing[done], done.result()) for done in as_completed(doing))


def _score(networks: Mapping[str, Path], song: Held, crop_tokens: int, draws: int, seed: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, run in networks.items():
        nats = song_nats(_loaded(run), song, tuple(SCORED[name]), crop_tokens, draws, seed)
        found |= {SCORED[name][arm]: value for arm, value in nats.items()}
    return found


@cache
def _loaded(run: Path) -> MaskPredictor:
    return load(run)
