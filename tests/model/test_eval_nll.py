"""Held-out NLL: closed cases of the estimator, and the baselines beside it."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model.config import ModelConfig
from model.evaluation.nll import code_counts, held_out, song_nll, unigram_nll
from model.evaluation.settings import NllConfig
from model.network import MaskPredictor, Prediction
from pipeline.codec.codec import CODEBOOK_SIZE
from pipeline.records.schema import BackendRecord, CodecRecord, Sample, SampleInfo, VariantRecord

SHAPE = ModelConfig(layers=1, width=16, heads=2, kv_heads=1, head_dim=8, ffn=16, attention_dropout=0.0, prefix_width=4)
UNIFORM = math.log(CODEBOOK_SIZE)


def sample(key: str, tokens: int = 30, captions: int = 1, codes: np.ndarray | None = None) -> Sample:
    rng = np.random.default_rng(len(key) + tokens)
    if codes is None:
        codes = rng.integers(0, CODEBOOK_SIZE, tokens)
    info = SampleInfo(
        key=key,
        track_id=key,
        uri="",
        licence="",
        artist="",
        split="test",
        selection="stage2",
        selection_reasons=(),
        scores={},
        sections=(),
        beats=(),
        downbeats=(),
        tempo=100.0,
        music_key="C major",
        vocal_active=(),
        captions=("calm",) * captions,
        lyrics="",
        samples_48k=(tokens - 1) * 1920,
        tokens=tokens,
        augmentation="orig",
        vocal_gain_db=0.0,
        accompaniment_variants=(VariantRecord((), 0.0),),
        reference_variants=(VariantRecord((), 0.0),),
        reference_spans=((0.0, 1.0),),
        codec=CodecRecord(0, 0, 1, 0),
        backends=(BackendRecord("codec", "test", "", ""),),
    )
    return Sample(
        info,
        vocal=rng.integers(0, CODEBOOK_SIZE, (1, tokens)).astype(np.uint16),
        accompaniment=codes.astype(np.uint16)[None, None],
        reference=rng.standard_normal((1, 1, 4)).astype(np.float16),
        text=rng.standard_normal((captions, 4)).astype(np.float16),
    ).validate()


def network(seed: int = 0) -> MaskPredictor:
    torch.manual_seed(seed)
    return MaskPredictor(SHAPE, rtd=False)


class Marginals(MaskPredictor):
    """Knows the code frequencies and nothing else."""

    log_p: Tensor

    def forward(self, *args: Tensor | None, **_: object) -> Prediction:
        masked = args[5]
        assert masked is not None
        return Prediction(self.log_p.expand(int(masked.sum()), -1), None)


@pytest.mark.parametrize(("tokens", "crop"), [(30, 1024), (30, 7), (1, 5)])
def test_a_network_that_knows_nothing_pays_log_16384(tokens: int, crop: int) -> None:
    blank = network()
    torch.nn.init.zeros_(blank.to_logits.weight)
    assert song_nll(blank, sample("a", tokens), NllConfig(draws=3, crop_tokens=crop), seed=0) == pytest.approx(UNIFORM)


def test_marginal_predictor_pays_the_unigram() -> None:
    song = sample("a", codes=np.arange(30) % 3)
    counts = np.zeros(CODEBOOK_SIZE, dtype=np.int64)
    counts[:3] = (400_000, 80_000, 10_000)
    knowing = Marginals(SHAPE, rtd=False)
    knowing.log_p = torch.log(torch.from_numpy((counts + 1) / (counts.sum() + CODEBOOK_SIZE))).float()
    found = song_nll(knowing, song, NllConfig(draws=400), seed=0)
    assert found == pytest.approx(unigram_nll(counts, song), rel=0.03)


def test_unigram_is_add_one() -> None:
    counts = np.zeros(CODEBOOK_SIZE, dtype=np.int64)
    counts[5] = 9
    seen, unseen = sample("a", 4, codes=np.full(4, 5)), sample("a", 4, codes=np.full(4, 6))
    assert unigram_nll(counts, seen) == pytest.approx(math.log((CODEBOOK_SIZE + 9) / 10))
    assert unigram_nll(counts, unseen) == pytest.approx(math.log(CODEBOOK_SIZE + 9))


def test_counts_of_training_codes() -> None:
    counts = code_counts([sample("a", 3, codes=np.array([1, 1, 2])), sample("b", 2, codes=np.array([2, 16_383]))])
    assert counts.shape == (CODEBOOK_SIZE,)
    assert (counts.sum(), counts[1], counts[2], counts[16_383]) == (5, 2, 2, 1)


def test_a_song_scores_the_same_alone_and_in_company() -> None:
    songs, counts = [sample("a"), sample("bb", 20)], np.zeros(CODEBOOK_SIZE, dtype=np.int64)
    together = held_out(network(), songs, counts, NllConfig(draws=2), seed=1)
    alone = held_out(network(), songs[1:], counts, NllConfig(draws=2), seed=1)
    assert together.model[1] == alone.model[0]
    assert (together.keys, together.uniform) == (("a", "bb"), UNIFORM)
    assert together.unigram == pytest.approx((UNIFORM, UNIFORM))


def test_the_reference_is_not_shown() -> None:
    song = sample("a")
    other = Sample(song.info, song.vocal, song.accompaniment, song.reference + 1, song.text)
    assert song_nll(network(), song, NllConfig(draws=2), 0) == song_nll(network(), other, NllConfig(draws=2), 0)
    retold = Sample(song.info, song.vocal, song.accompaniment, song.reference, song.text + 1)
    assert song_nll(network(), song, NllConfig(draws=2), 0) != song_nll(network(), retold, NllConfig(draws=2), 0)


def test_songs_without_captions_are_scored() -> None:
    assert math.isfinite(song_nll(network(), sample("a", captions=0), NllConfig(draws=1), 0))


def test_what_can_not_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="test split is empty"):
        held_out(network(), [], np.zeros(CODEBOOK_SIZE, dtype=np.int64), NllConfig(), 0)
    with pytest.raises(ValueError, match="training counts"):
        unigram_nll(np.zeros(3, dtype=np.int64), sample("a"))
