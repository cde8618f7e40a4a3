"""Does the model listen to the voice? Likelihood of held-out accompaniments given their own vocal, and given others.

Networks of one recipe learn the same accompaniments: one with the vocals that belong to them, twins with vocals paired
at random (`listening_networks`). Then every arm of `listening_arms` is scored under the same masks.

Conventions: no text, no reference; everything lies below one folder, and the same command goes on where it was cut off.
Code files are named after the codec's weights: a new codec begins anew, the rendered songs stay.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import Field

from flows.bench.listening_arms import ANY, ARMS, TRUE, TWIN, TWIN_AGAIN, TWIN_OTHER, UNIGRAM, Gain, gains, held
from flows.bench.listening_networks import MODEL, Material, load, train_all, trainings
from flows.bench.listening_pairs import Pair, load_codes
from flows.bench.listening_scores import Scoring, score_all
from flows.bench.listening_songs import HELD_SEED, TRAIN_SEED, Job, Progress, Source, donors, prepare
from flows.recipe import Recipe
from model import checkpoint
from model.config import TrainRun
from pipeline.codec import codec as codecs
from pipeline.codec.codec import CodecConfig, CodecSpec, weights_sha256
from pipeline.config import Config
from pipeline.records.schema import CodecRecord

RESULTS = "results.json"
RECIPE = Path(__file__).parent / "listening.yaml"


class ListeningConfig(Config):
    train_songs: int = Field(default=360, ge=2)  # rendered, 60-90 s each: 7.5 hours; ours
    held_songs: int = Field(default=48, ge=2)  # ours
    donors: int = Field(default=4000, ge=1)  # songs composed, at 21 ms each, to find a key and tempo among; ours
    draws: int = Field(default=4, ge=1)  # masks of each crop and arm; ours
    seed: int = Field(default=0, ge=0)  # of pairings, shifts and masks
    seconds: tuple[float, float] = (60.0, 90.0)  # shortest and longest song


@dataclass(frozen=True, slots=True)
class Listening:
    """What came out of one source of stems."""

    source: Source
    nats: Mapping[str, float]  # arm -> mean nats a token over the held-out songs that have it
    gains: tuple[Gain, ...]
    training_tokens: int
    steps: int
    parameters: int


def run(
    out: Path, config: ListeningConfig, recipe: Recipe, sources: Sequence[Source], workers: int, show: Progress
) -> list[Listening]:
    """The whole experiment; results are written as they come."""
    materials = {source: rendered(out, config, recipe.codec, source, workers, show) for source in sources}
    folders = {source: out / f"{source}-{weights_sha256(recipe.codec)[:8]}" for source in sources}
    train_run = recipe.train_run()
    todo = [
        one
        for source, material in materials.items()
        for one in trainings(folders[source], source, material, train_run, config.seed)
    ]
    train_all(todo, workers, show)
    found: list[Listening] = []
    for source, material in materials.items():
        found.append(experiment(folders[source], source, material, train_run, config, show, workers))
        write_results(out / RESULTS, found)
    return found


def rendered(
    out: Path, config: ListeningConfig, codec: CodecConfig, source: Source, workers: int, show: Progress
) -> Material:
    """Songs of this machine's renderer as codes; rendered, separated and encoded where they are missing."""
    place = out / "codes" / weights_sha256(codec)[:8] / source
    seeds = [TRAIN_SEED + n for n in range(config.train_songs)]
    kept = [HELD_SEED + n for n in range(config.held_songs)]
    lent = donors(kept, config.seconds, config.donors)
    jobs = [
        Job(s, lent.get(s, 0), s >= HELD_SEED, source, out / "songs", place / f"{s}.npz", codec, config.seconds)
        for s in [*seeds, *kept]
    ]
    prepare(jobs, workers, show)
    streams = {job.seed: dict(load_codes(job.codes)) for job in jobs}
    pairs = tuple(Pair(f"song-{s}", streams[s][TRUE], streams[s]["accompaniment"]) for s in seeds)
    for seed, neighbour in zip(kept, kept[1:] + kept[:1], strict=True):
        streams[seed][ANY] = streams[neighbour][TRUE]
    songs = tuple(held(f"song-{s}", streams[s].pop("accompaniment"), streams[s], config.seed) for s in kept)
    return Material(pairs, songs, record_of(codecs.build(codec).spec))


def record_of(spec: CodecSpec) -> CodecRecord:
    return CodecRecord(spec.window_tokens, spec.hop_samples, spec.phases, spec.context_frames)


def experiment(
    folder: Path,
    source: Source,
    material: Material,
    recipe: TrainRun,
    config: ListeningConfig,
    show: Progress,
    workers: int = 1,
) -> Listening:
    """Train all networks on the pairs and score the held-out songs; resumable at every step."""
    todo = {one.out.name: one for one in trainings(folder, source, material, recipe, config.seed)}
    train_all(list(todo.values()), workers, show)
    runs = {name: one.out for name, one in todo.items()}
    scoring = Scoring(runs, material.train, recipe.training.stages[-1].crop_tokens, config.draws, config.seed)
    scores = score_all(folder / f"scores-{config.draws}-{config.seed}.jsonl", scoring, material.held, workers, show)
    arms = [TRUE, *[arm for arm in ARMS if arm != TRUE], TWIN, TWIN_AGAIN, TWIN_OTHER, UNIGRAM]
    nats = {arm: [song[arm] for song in scores.values() if arm in song] for arm in arms}
    return Listening(
        source,
        {arm: sum(values) / len(values) for arm, values in nats.items() if values},
        tuple(gains(scores)),
        sum(len(song.accompaniment) for song in material.train),
        checkpoint.load(runs[MODEL]).progress.step,
        sum(p.numel() for p in load(runs[MODEL]).parameters()),
    )


def write_results(path: Path, found: Sequence[Listening]) -> None:
    """All figures as JSON, in one step."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
