"""The listening experiment where the truth is known: codes that follow the vocal, and codes that don't."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from flows.bench.listening import RECIPE, Listening, ListeningConfig, experiment, run, write_results
from flows.bench.listening_arms import (
    ANY,
    OTHER,
    SHIFTED,
    TRANSPOSED,
    TRUE,
    TWIN,
    TWIN_AGAIN,
    TWIN_OTHER,
    UNIGRAM,
    Gain,
    Held,
    gains,
    held,
    unigram_nats,
)
from flows.bench.listening_networks import NETWORKS, Material, trainings
from flows.bench.listening_pairs import (
    PAIRINGS,
    Pair,
    code_counts,
    fitted,
    random_pairs,
    sample,
    true_pairs,
    write_dataset,
)
from flows.bench.listening_show import draw, table_of, verdict
from flows.bench.listening_songs import TEMPO_RATIO, Source, nearest
from flows.recipe import load_recipe
from model.config import ModelConfig, ObjectiveConfig, RtdConfig, StageConfig, TrainingConfig, TrainRun
from model.data import Drawing, RowSource
from model.evaluation.intervals import Interval
from model.shards import ShardSamples
from pipeline.records.schema import CodecRecord

CODES, KEPT, TOKENS = 8, 0.8, 200  # codes in use; share of frames that follow the vocal; length of a song
CODEC = CodecRecord(window_tokens=0, hop_samples=0, phases=1, context_frames=1)
MAPPING = np.random.default_rng(0).permutation(CODES)
HIT, MISS = KEPT + (1 - KEPT) / CODES, (1 - KEPT) / CODES


def world(songs: int, seed: int, follows: bool) -> list[Pair]:
    """Uniform vocals; the accompaniment is a mapping of them, but for noise, or uniform too."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(songs):
        vocal = rng.integers(0, CODES, TOKENS)
        noise = rng.integers(0, CODES, TOKENS)
        kept = (rng.random(TOKENS) < KEPT) & follows
        accompaniment = np.where(kept, MAPPING[vocal], noise)
        made.append(Pair(f"{seed}-{number}", vocal.astype(np.uint16), accompaniment.astype(np.uint16)))
    return made


def truth(song: Held, arm: str) -> float:
    """Nats a token of the accompaniment under the law that made it, given the arm's vocal."""
    hit = MAPPING[song.vocals[arm]] == song.accompaniment
    return float(-np.log(np.where(hit, HIT, MISS)).mean())


def recipe(steps: int = 200) -> TrainRun:
    model = ModelConfig(
        layers=1, width=32, heads=2, kv_heads=2, head_dim=16, ffn=64, prefix_width=8, attention_dropout=0.0
    )
    stage = StageConfig(
        name="stage1", split="train-stage1", crop_tokens=64, steps=steps, batch_size=8, accumulation=1,
        learning_rate=1e-2, warmup_steps=10, weight_decay=0.0, condition_dropout=1.0,
    )  # fmt: skip
    training = TrainingConfig(
        stages=(stage,), objective=ObjectiveConfig(rtd=RtdConfig(weight=0.0)), precision="no", crop_mode="slice",
        log_with="", log_every=50, validate_samples=0,
    )  # fmt: skip
    return TrainRun(model=model, training=training)


def material(follows: bool) -> Material:
    songs = world(12, seed=2, follows=follows)
    others = world(12, seed=3, follows=follows)
    kept = [
        held(song.name, song.accompaniment, {TRUE: song.vocal, OTHER: other.vocal}, seed=0)
        for song, other in zip(songs, others, strict=True)
    ]
    return Material(tuple(world(24, seed=1, follows=follows)), tuple(kept), CODEC)


def by_arm(found: Listening) -> dict[str, Gain]:
    return {gain.arm: gain for gain in found.gains}


def silent(phase: str, done: int, total: int) -> None:
    pass


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_codes_that_follow_the_vocal_show_the_gain_that_the_law_has(tmp_path: Path) -> None:
    songs = material(follows=True)
    found = experiment(tmp_path, "dry", songs, recipe(), ListeningConfig(draws=3), silent)
    arms = by_arm(found)
    for arm in (TRUE, SHIFTED, OTHER):  # the last two: the mismatched cross-entropy, far above the marginal
        law = np.array([truth(song, arm) for song in songs.held])
        assert found.nats[arm] == pytest.approx(law.mean(), rel=0.05), arm
        assert found.nats[arm] > law.mean() - 4 * law.std() / math.sqrt(len(law))
    assert found.nats[TWIN] == pytest.approx(math.log(CODES), rel=0.05)
    assert found.nats[UNIGRAM] == pytest.approx(found.nats[TWIN], abs=2.5)  # add-one over 16384 codes, 4800 seen
    assert all(arms[arm].clear for arm in (TWIN, SHIFTED, OTHER, UNIGRAM))
    # not `none`: which codes met by chance in the twin's 24 pairs is the same for every held-out song, so an interval
    # over songs knows nothing of it. Fully learned it would be worth .04 nats
    assert abs(arms[TWIN_OTHER].nats) < 0.02
    assert abs(arms[TWIN_AGAIN].nats) < 0.02
    assert (found.training_tokens, found.steps) == (24 * TOKENS, 200)

    again = experiment(
        tmp_path, "dry", songs, recipe(), ListeningConfig(draws=3), silent
    )  # nothing is trained or scored anew
    assert again == found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_codes_that_do_not_follow_the_vocal_show_none(tmp_path: Path) -> None:
    found = experiment(tmp_path, "dry", material(follows=False), recipe(), ListeningConfig(draws=3), silent, workers=2)
    assert all((tmp_path / name / "train.log").stat().st_size > 0 for name in NETWORKS["dry"])
    arms = by_arm(found)
    for arm in (TWIN, TWIN_AGAIN, SHIFTED, OTHER, TWIN_OTHER):
        assert abs(arms[arm].nats) < 0.03, arm
    assert found.nats[TRUE] == pytest.approx(math.log(CODES), rel=0.05)


def test_pairs_are_named_alike_and_keep_each_accompaniment() -> None:
    songs = world(6, seed=1, follows=True)
    own, lent = list(true_pairs(songs)), list(random_pairs(songs, seed=0))
    assert len({pair.name for pair in own}) == len(own) == 6 * PAIRINGS
    for number, (true, random) in enumerate(zip(own, lent, strict=True)):
        song = songs[number // PAIRINGS]
        assert true.name == random.name
        assert np.array_equal(true.vocal, song.vocal)
        assert true.accompaniment is random.accompaniment is song.accompaniment


def test_random_pairs_take_the_vocals_of_different_others() -> None:
    songs = world(6, seed=1, follows=True)
    singers = {tuple(sorted(song.vocal)): song.name for song in songs}
    lent = list(random_pairs(songs, seed=0))
    for number, song in enumerate(songs):
        lenders = [singers[tuple(sorted(pair.vocal))] for pair in lent[PAIRINGS * number : PAIRINGS * (number + 1)]]
        assert len(set(lenders)) == PAIRINGS
        assert song.name not in lenders
    again, other = (list(random_pairs(songs, seed)) for seed in (0, 1))
    assert all(np.array_equal(one.vocal, two.vocal) for one, two in zip(lent, again, strict=True))
    assert not all(np.array_equal(one.vocal, two.vocal) for one, two in zip(lent, other, strict=True))
    assert len(list(random_pairs(songs[:3], seed=0))) == 3 * PAIRINGS
    with pytest.raises(ValueError, match="two or more"):
        list(random_pairs(songs[:1], seed=0))


def test_all_networks_meet_the_same_accompaniments_under_the_same_masks(tmp_path: Path) -> None:
    todo = list(trainings(tmp_path, "dry", material(follows=True), recipe(), seed=0))
    assert [one.out.name for one in todo] == list(NETWORKS["dry"])
    drawing = Drawing(0, 0, 64, "slice", 1.0)
    seen = []
    for one in todo:
        source = RowSource(ShardSamples(one.dataset, "train-stage1"), drawing)
        seen.append([source.row(number) for number in range(30)])
    for model, twin, again in zip(*seen, strict=True):
        assert model.key == twin.key == again.key
        assert np.array_equal(model.accompaniment_T, twin.accompaniment_T)
        assert np.array_equal(model.accompaniment_T, again.accompaniment_T)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not all(np.array_equal(a.vocal_T, b.vocal_T) for a, b in zip(seen[first], seen[second], strict=True))


def test_vocals_are_made_to_fit_around_their_end() -> None:
    codes = np.arange(3, dtype=np.uint16)
    assert fitted(codes, 5, start=2).tolist() == [2, 0, 1, 2, 0]
    assert fitted(codes, 2).tolist() == [0, 1]


def test_a_dataset_of_pairs_is_read_as_it_was_written(tmp_path: Path) -> None:
    songs = world(5, seed=1, follows=True)
    for _ in range(2):  # the second leaves it as it is
        write_dataset(tmp_path, iter(songs[:3]), songs[3:], CODEC, "toy")
        read = {s.info.key: s for s in ShardSamples(tmp_path, "train-stage1")}
        assert set(read) == {song.name for song in songs[:3]}
        assert np.array_equal(read[songs[0].name].accompaniment[0, 0], songs[0].accompaniment)
        assert len(ShardSamples(tmp_path, "val")) == 2
    assert sample(songs[0], "train", CODEC).info.tokens == TOKENS


def test_the_shift_lies_within_its_seconds_and_repeats() -> None:
    vocal = np.arange(1000, dtype=np.uint16)
    for name in "abcdef":
        song = held(name, np.zeros(1000, np.uint16), {TRUE: vocal}, seed=0)
        assert 50 <= (1000 - int(song.vocals[SHIFTED][0])) % 1000 <= 200
        assert np.array_equal(
            held(name, song.accompaniment, {TRUE: vocal}, seed=0).vocals[SHIFTED], song.vocals[SHIFTED]
        )


def test_gains_are_means_over_the_songs_that_have_both() -> None:
    scores = {
        "a": {TRUE: 1.0, SHIFTED: 1.5, TWIN: 2.0, TWIN_OTHER: 2.0, UNIGRAM: 5.0},
        "b": {TRUE: 2.0, SHIFTED: 2.7, TWIN: 3.0, UNIGRAM: 5.0, TRANSPOSED: 2.1},
    }
    found = {gain.arm: gain for gain in gains(scores)}
    assert found[SHIFTED].nats == pytest.approx(0.6)
    span = found[SHIFTED].interval
    assert span is not None
    assert (span.low, span.high) == pytest.approx((0.5, 0.7))
    assert (found[TWIN].nats, found[TWIN].songs, found[UNIGRAM].nats) == (1.0, 2, 3.5)
    assert found[TRANSPOSED].songs == found[TWIN_OTHER].songs == 1
    assert found[TRANSPOSED].interval is None
    assert OTHER not in found


def test_unigram_counts_every_code_once_more() -> None:
    counts = code_counts(world(3, seed=1, follows=True), CODES)
    assert counts.sum() == 3 * TOKENS
    song = held("a", np.array([2, 2, 5], np.uint16), {TRUE: np.zeros(3, np.uint16)}, seed=0)
    share = (counts + 1) / (counts.sum() + CODES)
    assert unigram_nats(counts, song) == pytest.approx(-np.log(share[[2, 2, 5]]).mean())


def test_voices_are_lent_within_a_key_and_tempo_each_once() -> None:
    songs = {1: ("C major", 100.0), 2: ("C major", 101.0), 3: ("A minor", 100.0), 4: ("C major", 99.0)}
    others = {11: ("C major", 100.0), 12: ("C major", 103.0), 13: ("A minor", 110.0), 14: ("C minor", 99.0)}
    assert nearest(songs, others) == {1: 11, 2: 12}
    assert nearest({}, others) == {}
    assert TEMPO_RATIO < 1.05


def test_table_and_picture_of_what_was_found(tmp_path: Path) -> None:
    good = Gain(TWIN, 0.2, Interval(0.1, 0.3), 9)
    bad = Gain(SHIFTED, 0.1, Interval(-0.1, 0.3), 9)
    still = Gain(TWIN_OTHER, 0.0, Interval(-0.01, 0.01), 9)
    assert [verdict(gain, {}) for gain in (good, bad, still)] == ["pass", "FAIL", "pass"]
    assert verdict(Gain(OTHER, 0.1, None, 1), {}) == ""
    for noise, said in ((0.19, "pass"), (-0.21, "FAIL"), (0.21, "FAIL")):  # as two twins differ
        assert verdict(good, {TWIN_AGAIN: Gain(TWIN_AGAIN, noise, None, 9)}) == said
    sources: tuple[Source, ...] = ("dry", "separated")
    found = [Listening(source, {TRUE: 1.0}, (good, bad, still), 100, 3, 5) for source in sources]
    table = table_of(found)
    assert (len(table.columns), table.row_count) == (5, 3)
    draw(found, tmp_path / "gains.png")
    assert (tmp_path / "gains.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    write_results(tmp_path / "results.json", found)
    assert json.loads((tmp_path / "results.json").read_text())[1]["gains"][0]["interval"] == {"low": 0.1, "high": 0.3}


@pytest.mark.songs
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_experiment_runs_on_rendered_songs(tmp_path: Path) -> None:
    config = ListeningConfig(train_songs=2, held_songs=2, draws=1, seconds=(20.0, 30.0), donors=60)
    tiny = ["model={layers: 1, width: 16, heads: 2, kv_heads: 1, head_dim: 8, ffn: 32}"]
    tiny += ["training.stages=[{name: stage1, split: train-stage1, crop_tokens: 64, steps: 2, warmup_steps: 1}]"]
    found = run(tmp_path, config, load_recipe(str(RECIPE), tiny), ["dry", "separated"], 2, silent)
    assert [one.source for one in found] == ["dry", "separated"]
    assert all({TRUE, SHIFTED, TRANSPOSED, ANY, TWIN, UNIGRAM} <= set(one.nats) for one in found)
    assert [TWIN_AGAIN in one.nats for one in found] == [True, False]
    assert (tmp_path / "results.json").exists()
