"""Tokenization: shapes of the contract, the loudness rule after the filters, draws that nothing but the seed moves."""

from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.audio import apply_gain, loudness_gain_db, peak_dbfs, rms_dbfs
from pipeline.augmentation import BalanceConfig, apply_filters
from pipeline.codec.codec import SAMPLE_RATE, Codec, CodecSpec, Codes, token_count
from pipeline.conditioning.conditioner import ConditionerSpec, Vectors
from pipeline.errors import BackendUnavailable
from pipeline.loudness import LoudnessConfig
from pipeline.separation.stage import Stems
from pipeline.tokenization import Song, TokenizationConfig, Tokens, slice_agreements, tokenize_all
from pipeline.types import Audio

BALANCE = BalanceConfig()
CAPTIONS = ("bright folk", "a calm song with guitar", "")


class LevelCodec:
    """A real, tiny codec: a code is the level of its 40 ms in steps of 0.01 dB. Keeps what it was given."""

    spec = CodecSpec("level", "", "CC0-1.0", window_tokens=0, hop_samples=0, phases=1, context_frames=1)

    def __init__(self) -> None:
        self.heard: list[Audio] = []

    def encode(self, audio: Audio) -> Codes:
        self.heard.append(audio)
        count = token_count(audio.length)
        mono = np.zeros(count * 1920)
        mono[: audio.length] = audio.mono().samples[0]
        power = np.square(mono).reshape(count, 1920).mean(axis=1)
        return np.clip(-1000 * np.log10(power + 1e-12), 0, 16_383).astype(np.uint16)[None]

    def decode(self, codes: Codes) -> Audio:
        level = np.repeat(10 ** (codes / -2000.0), 1920).astype(np.float32)
        return Audio(np.stack([level, level]), SAMPLE_RATE)


class LatentCodec(LevelCodec):
    """Its latents are the code and its double."""

    def latents(self, audio: Audio) -> NDArray[np.float32]:
        level = super().encode(audio)[0].astype(np.float32) / 10
        return np.stack([level, 2 * level], axis=1)

    def decode_latents(self, latents: NDArray[np.float32]) -> Audio:
        return self.decode((latents[:, 0] * 10).astype(np.uint16))

    def centroids(self) -> NDArray[np.float32]:
        level = np.arange(16_384, dtype=np.float32) / 10
        return np.stack([level, 2 * level], axis=1)


class EdgyCodec(LevelCodec):
    """Its codes depend on where the audio begins, as those of a codec with windows do."""

    def encode(self, audio: Audio) -> Codes:
        codes = super().encode(audio)
        return (codes + codes[0, 0]) % 16_384


class MeanConditioner:
    """Width 4: two moments of the audio, its channels, its length; a text's length."""

    spec = ConditionerSpec("mean", "", "CC0-1.0", width=4, reference_seconds=20.48, joint_space=False)

    def text(self, texts: Sequence[str]) -> Vectors:
        return np.array([[len(text), 0, 0, 1] for text in texts], np.float32)

    def audio(self, audio: Audio) -> Vectors:
        x = audio.samples
        return np.array([x.mean(), x.std(), audio.channels, audio.duration], np.float32)


def stems(seconds: float = 33.3, seed: int = 0) -> Stems:
    rng = np.random.default_rng(seed)
    shape = (2, round(seconds * SAMPLE_RATE))
    swell = np.linspace(0.02, 0.2, shape[1])
    return Stems(*(Audio((swell * rng.standard_normal(shape)).astype(np.float32), SAMPLE_RATE) for _ in range(2)))


def run(song: Stems, variants: int = 3, seed: int = 0, key: str = "song-orig", training: bool = True) -> Tokens:
    return tokenize(TokenizationConfig(variants=variants), LevelCodec(), song, CAPTIONS, seed, key, training)


def tokenize(
    config: TokenizationConfig, codec: Codec, song: Stems, captions: tuple[str, ...] = (), seed: int = 0,
    key: str = "song-orig", training: bool = True, balance: BalanceConfig = BALANCE,
) -> Tokens:  # fmt: skip
    (tokens,) = tokenize_all(config, balance, codec, MeanConditioner(), [Song(song, captions, key, training)], seed)
    return tokens


@pytest.fixture(scope="module")
def song() -> Stems:
    return stems()


@pytest.fixture(scope="module")
def tokens(song: Stems) -> Tokens:
    return run(song)


def test_arrays_have_the_contract_s_shapes(song: Stems, tokens: Tokens) -> None:
    count = token_count(song.vocal.length)
    assert (tokens.vocal.shape, tokens.vocal.dtype) == ((1, count), np.uint16)
    assert (tokens.accompaniment.shape, tokens.accompaniment.dtype) == ((4, 1, count), np.uint16)
    assert (tokens.reference.shape, tokens.reference.dtype) == ((4, 3, 4), np.float16)
    assert (tokens.text.shape, tokens.text.dtype) == ((3, 4), np.float16)
    assert (len(tokens.accompaniment_variants), len(tokens.reference_variants)) == (4, 4)
    assert tokens.samples_48k == song.vocal.length


def test_latents_are_kept_where_they_are_asked_for(song: Stems, tokens: Tokens) -> None:
    assert tokens.latents == {}
    config = TokenizationConfig(variants=3, latents=True)
    made = tokenize(config, LatentCodec(), song)
    for name in ("vocal", "accompaniment"):
        latent, codes = made.latents[name], getattr(made, name)
        assert (latent.shape, latent.dtype) == ((*codes.shape, 2), np.float16)
        assert np.allclose(latent[..., 0], codes / 10, rtol=1e-3), "of the very audio, variant by variant"
    with pytest.raises(BackendUnavailable, match="'level' has no continuous latents"):
        tokenize(config, LevelCodec(), song)


def test_held_out_songs_have_only_the_clean_variant(song: Stems, tokens: Tokens) -> None:
    held_out = run(song, training=False)
    assert held_out.accompaniment.shape[0] == held_out.reference.shape[0] == 1
    assert np.array_equal(held_out.accompaniment[0], tokens.accompaniment[0])
    assert np.array_equal(held_out.reference[0], tokens.reference[0])


def test_every_stream_is_levelled_after_its_filters(song: Stems, tokens: Tokens) -> None:
    for variant, record in enumerate(tokens.accompaniment_variants):
        filtered = apply_filters(song.accompaniment, record.filters)
        assert record.gain_db == pytest.approx(loudness_gain_db(filtered), abs=1e-9)
        levelled = apply_gain(filtered, record.gain_db)
        assert peak_dbfs(levelled) <= -1 + 1e-3
        assert rms_dbfs(levelled) == pytest.approx(-16, abs=0.01) or peak_dbfs(levelled) == pytest.approx(-1, abs=0.01)
        assert np.array_equal(tokens.accompaniment[variant], LevelCodec().encode(levelled))
    assert tokens.vocal_gain_db == pytest.approx(loudness_gain_db(song.vocal))


def test_another_loudness_rule_moves_every_stream(song: Stems, tokens: Tokens) -> None:
    quiet = TokenizationConfig(variants=0, loudness=LoudnessConfig(rms=-26.0))
    codec = LevelCodec()
    made = tokenize(quiet, codec, song)
    assert all(rms_dbfs(heard) == pytest.approx(-26, abs=0.01) for heard in codec.heard)
    assert made.vocal_gain_db < tokens.vocal_gain_db
    assert np.all(made.reference[0, :, 1] < tokens.reference[0, :, 1])


def test_the_first_variant_is_clean_and_some_draws_are_not(song: Stems) -> None:
    many = run(song, variants=24)
    for records in (many.accompaniment_variants, many.reference_variants):
        assert records[0].filters == ()
        filtered = sum(bool(record.filters) for record in records[1:])
        assert 10 <= filtered <= 22  # of 24 draws at 0.7: 16.8 are expected, with a deviation of 2.2
    clean = [i for i, record in enumerate(many.accompaniment_variants) if not record.filters]
    assert all(np.array_equal(many.accompaniment[i], many.accompaniment[0]) for i in clean)


def test_equal_draws_are_encoded_once(song: Stems) -> None:
    codec = LevelCodec()
    config, never = TokenizationConfig(variants=5), BalanceConfig(probability=0.0)
    tokenize(config, codec, song, CAPTIONS, balance=never)
    assert len(codec.heard) == 2


def test_streams_and_variants_and_songs_and_seeds_draw_for_themselves(song: Stems) -> None:
    runs = [run(song, 4), run(song, 4, seed=1), run(song, 4, key="other-orig")]
    drawn = [
        r.filters for run_ in runs for rs in (run_.accompaniment_variants, run_.reference_variants) for r in rs[1:]
    ]
    filtered = [filters for filters in drawn if filters]
    assert len(filtered) > 8
    assert len(set(filtered)) == len(filtered)


def test_nothing_but_seed_and_key_moves_a_draw(song: Stems, tokens: Tokens) -> None:
    run(stems(seed=9), key="something-else")
    again = run(song)
    assert again.accompaniment_variants == tokens.accompaniment_variants
    assert np.array_equal(again.reference, tokens.reference)
    assert run(song, variants=1).accompaniment_variants == tokens.accompaniment_variants[:2]


def test_reference_windows_cover_the_song_to_its_end(song: Stems, tokens: Tokens) -> None:
    assert [start for start, _ in tokens.reference_spans] == pytest.approx([0, 10.24, 33.3 - 20.48], abs=1e-4)
    assert [stop for _, stop in tokens.reference_spans] == pytest.approx([20.48, 30.72, 33.3], abs=1e-4)
    assert np.all(tokens.reference[:, :, 2] == 1)  # mono
    assert tokens.reference[0, :, 3] == pytest.approx(20.48, rel=1e-3)
    assert np.all(np.diff(tokens.reference[0, :, 1].astype(np.float64)) > 0)  # the song swells


@pytest.mark.parametrize(("samples", "windows"), [(983_039, 0), (983_040, 1), (983_041, 2), (1_474_560, 2)])
def test_reference_windows_of_short_songs(samples: int, windows: int) -> None:
    tokens = run(stems(samples / SAMPLE_RATE), variants=1)
    assert tokens.reference.shape == (2, windows, 4)
    assert len(tokens.reference_spans) == windows
    assert all(0 <= start < stop <= samples / SAMPLE_RATE for start, stop in tokens.reference_spans)


def test_captions_are_read_one_by_one(song: Stems) -> None:
    config = TokenizationConfig(variants=0)
    none = tokenize(config, LevelCodec(), song)
    assert none.text.shape == (0, 4)
    assert run(song).text[:, 0].tolist() == [len(caption) for caption in CAPTIONS]


def test_stems_of_another_rate_or_length_are_refused(song: Stems) -> None:
    shorter = Audio(song.vocal.samples[:, :-1], SAMPLE_RATE)
    with pytest.raises(ValueError, match="equally long"):
        run(Stems(shorter, song.accompaniment))
    with pytest.raises(ValueError, match="44100"):
        run(Stems(Audio(song.vocal.samples, 44_100), song.accompaniment))


def agreement(codec: Codec, song: Audio, crop_tokens: int) -> float:
    return slice_agreements(codec, [song], crop_tokens, 5, seed=0)[0]


def test_slice_agreement_is_one_without_windows_and_low_with_them(song: Stems) -> None:
    assert agreement(LevelCodec(), song.vocal, 100) == 1.0
    assert agreement(EdgyCodec(), song.vocal, 100) < 0.5
    assert np.isnan(agreement(LevelCodec(), song.vocal, 10_000))


class TogetherCodec(EdgyCodec):
    """Takes several songs at once, and says how many sounds it was given at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def encode_batch(self, songs: Iterable[Audio]) -> list[Codes]:
        codes = [self.encode(audio) for audio in songs]
        self.batches.append(len(codes))
        return codes


class TogetherConditioner(MeanConditioner):
    """The same of texts and windows."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def text_batch(self, texts: Sequence[str]) -> Vectors:
        self.batches.append(len(texts))
        return self.text(texts)

    def audio_batch(self, pieces: Iterable[Audio]) -> Vectors:
        vectors = [self.audio(piece) for piece in pieces]
        self.batches.append(len(vectors))
        return np.stack(vectors)


def test_songs_that_are_tokenized_at_once_have_the_tokens_that_they_have_alone() -> None:
    """A short song without a reference window, one without captions, a held-out one and a silent one among them."""
    silence = Audio(np.zeros((2, 480_000), np.float32), SAMPLE_RATE)
    songs = [
        Song(stems(33.3), CAPTIONS, "a-orig", training=True),
        Song(stems(2.5, seed=1), ("one",), "b-orig", training=True),
        Song(stems(41.0, seed=2), (), "c-orig", training=False),
        Song(Stems(silence, silence), CAPTIONS[:2], "d-orig", training=True),
    ]
    codec, conditioner, config = TogetherCodec(), TogetherConditioner(), TokenizationConfig(variants=3)
    together = tokenize_all(config, BALANCE, codec, conditioner, songs, 0)
    alone = [tokenize_all(config, BALANCE, EdgyCodec(), MeanConditioner(), [song], 0)[0] for song in songs]
    for mine, other in zip(together, alone, strict=True):
        for name in ("vocal", "accompaniment", "reference", "text"):
            assert np.array_equal(getattr(mine, name), getattr(other, name)), name
        for name in ("vocal_gain_db", "accompaniment_variants", "reference_variants", "reference_spans", "samples_48k"):
            assert getattr(mine, name) == getattr(other, name), name
    assert [one.text.shape for one in together] == [(3, 4), (1, 4), (0, 4), (2, 4)]
    assert [one.reference.shape[1] for one in together] == [3, 0, 4, 0]
    assert len(codec.batches) == 1
    sounds = sum(len({record.filters for record in one.accompaniment_variants}) + 1 for one in together)
    assert codec.batches == [sounds]
    assert conditioner.batches[1] == 6  # captions
    accompaniments = [song.stems.accompaniment for song in songs]
    agreed = slice_agreements(codec, accompaniments, 100, 2, seed=0)
    assert agreed == pytest.approx([agreement_alone(audio) for audio in accompaniments], nan_ok=True)
    assert codec.batches[1:] == [3 * 3]  # the short song has no crops


def agreement_alone(audio: Audio) -> float:
    return slice_agreements(EdgyCodec(), [audio], 100, 2, seed=0)[0]


def test_nothing_to_tokenize() -> None:
    assert tokenize_all(TokenizationConfig(), BALANCE, LevelCodec(), MeanConditioner(), [], 0) == []
