"""Does the model listen to the voice? Likelihood of held-out accompaniments given their own vocal, and given others.

Two networks of one recipe learn the same accompaniments: one with the vocals that belong to them, its twin with vocals
paired at random. Then every arm of `listening_arms` is scored under the same masks.

Conventions: no text, no reference; everything lies below one folder, and the same command goes on where it was cut off.
Code files are named after the codec's weights: a new codec begins anew, the rendered songs stay.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import Field

from flows.bench.listening_arms import (
    ARMS,
    OTHER,
    TRUE,
    TWIN,
    TWIN_OTHER,
    UNIGRAM,
    Gain,
    Held,
    gains,
    held,
    song_nats,
    unigram_nats,
)
from flows.bench.listening_pairs import Pair, code_counts, load, random_pairs, write_dataset
from flows.bench.listening_songs import HELD_SEED, TRAIN_SEED, Job, Progress, Source, donors, prepare
from flows.recipe import Recipe
from model import checkpoint
from model.config import TrainRun
from model.network import MaskPredictor
from model.train import train
from pipeline.codec import codec as codecs
from pipeline.codec.codec import CODEBOOK_SIZE, CodecConfig, CodecSpec, weights_sha256
from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.records.schema import CodecRecord

logger = logging.getLogger(__name__)
RESULTS = "results.json"
RECIPE = Path(__file__).parent / "listening.yaml"


class ListeningConfig(Config):
    train_songs: int = Field(default=360, ge=2)  # rendered, 60-90 s each: 7.5 hours; ours
    held_songs: int = Field(default=48, ge=2)  # ours
    donors: int = Field(default=4000, ge=1)  # songs composed, at 21 ms each, to find a key and tempo among; ours
    draws: int = Field(default=8, ge=1)  # masks of each crop and arm; ours
    seed: int = Field(default=0, ge=0)  # of pairings, shifts and masks
    seconds: tuple[float, float] = (60.0, 90.0)  # shortest and longest song


class ListeningStoppedError(PipelineError):
    """Training was told to stop; the same command goes on."""


@dataclass(frozen=True, slots=True)
class Material:
    """What is trained on and what is scored."""

    train: tuple[Pair, ...]
    held: tuple[Held, ...]
    codec: CodecRecord


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
    """The whole experiment, source by source; results are written after each."""
    found: list[Listening] = []
    for source in sources:
        material = rendered(out, config, recipe.codec, source, workers, show)
        folder = out / f"{source}-{weights_sha256(recipe.codec)[:8]}"
        found.append(experiment(folder, source, material, recipe.train_run(), config, show))
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
    streams = {job.seed: dict(load(job.codes)) for job in jobs}
    pairs = tuple(Pair(f"song-{s}", streams[s][TRUE], streams[s]["accompaniment"]) for s in seeds)
    songs = tuple(held(f"song-{s}", streams[s].pop("accompaniment"), streams[s], config.seed) for s in kept)
    return Material(pairs, songs, record_of(codecs.build(codec).spec))


def record_of(spec: CodecSpec) -> CodecRecord:
    return CodecRecord(spec.window_tokens, spec.hop_samples, spec.phases, spec.context_frames)


def experiment(
    folder: Path, source: Source, material: Material, recipe: TrainRun, config: ListeningConfig, show: Progress
) -> Listening:
    """Train both networks on the pairs and score the held-out songs; resumable at every step."""
    first = [Pair(song.name, song.vocals[TRUE], song.accompaniment) for song in material.held[:8]]
    networks = {}
    for name, pairs in (("model", iter(material.train)), (TWIN, random_pairs(material.train, config.seed))):
        dataset = write_dataset(folder / f"data-{name}", pairs, first, material.codec, f"listening-{name}")
        networks[name] = _trained(recipe, dataset, folder / name)
    scores = _scores(folder / f"scores-{config.draws}-{config.seed}.jsonl", networks, material, config, recipe, show)
    arms = [TRUE, *[arm for arm in ARMS if arm != TRUE], TWIN, TWIN_OTHER, UNIGRAM]
    nats = {arm: [song[arm] for song in scores.values() if arm in song] for arm in arms}
    return Listening(
        source,
        {arm: sum(values) / len(values) for arm, values in nats.items() if values},
        tuple(gains(scores)),
        sum(len(song.accompaniment) for song in material.train),
        checkpoint.load(folder / "model").progress.step,
        sum(p.numel() for p in networks["model"].parameters()),
    )


def _trained(recipe: TrainRun, dataset: Path, out: Path) -> MaskPredictor:
    outcome = train(recipe, dataset, out)
    if not outcome.finished:
        raise ListeningStoppedError(f"{out} was stopped after step {outcome.step} and saved; the same command goes on")
    network = MaskPredictor(recipe.model, rtd=recipe.training.objective.rtd.weight > 0)
    network.load_state_dict(checkpoint.load(out).weights())
    return network


def _scores(
    path: Path,
    networks: Mapping[str, MaskPredictor],
    material: Material,
    config: ListeningConfig,
    recipe: TrainRun,
    show: Progress,
) -> dict[str, dict[str, float]]:
    """Song -> arm -> nats a token; a line a song in `path`, and lines that are there are not made again."""
    known = {}
    if path.exists():
        known = {line["song"]: line["nats"] for line in map(json.loads, path.read_text("utf-8").splitlines())}
    counts = code_counts(material.train, CODEBOOK_SIZE)
    crop = recipe.training.stages[-1].crop_tokens
    found: dict[str, dict[str, float]] = {}
    for number, song in enumerate(material.held, 1):
        if song.name not in known:
            nats = song_nats(networks["model"], song, ARMS, crop, config.draws, config.seed)
            twin = song_nats(networks[TWIN], song, (TRUE, OTHER), crop, config.draws, config.seed)
            nats |= {name: twin[arm] for arm, name in ((TRUE, TWIN), (OTHER, TWIN_OTHER)) if arm in twin}
            known[song.name] = nats | {UNIGRAM: unigram_nats(counts, song)}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"song": song.name, "nats": known[song.name]}) + "\n")
        found[song.name] = known[song.name]
        show("score", number, len(material.held))
    return found


def write_results(path: Path, found: Sequence[Listening]) -> None:
    """All figures as JSON, in one step."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
