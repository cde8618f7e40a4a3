"""Crops and their reference windows: the rule of design decisions `crop` and `reference`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.crops import check_mode, draw, extents, free_windows, starts
from pipeline.audio import to_samples, to_seconds
from pipeline.codec.codec import token_count
from pipeline.errors import BadInput
from pipeline.records.schema import CodecRecord

SLICES = CodecRecord(window_tokens=0, hop_samples=0, phases=1, context_frames=1)
WINDOWS = CodecRecord(window_tokens=1024, hop_samples=1_966_560, phases=4, context_frames=1024)
REFERENCE = 983_040  # samples: 20.48 s


def reference_windows(samples: int, hop: int) -> list[tuple[int, int]]:
    return [(s, s + REFERENCE) for s in range(0, samples - REFERENCE + 1, hop)]


@settings(max_examples=200, deadline=None)
@given(
    samples=st.integers(20 * 48_000, 400 * 48_000),
    hop=st.integers(24_000, 491_520),
    crop_tokens=st.sampled_from([256, 512, 1024, 4096]),
    windows=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_reference_shares_a_sample_with_its_crop(
    samples: int, hop: int, crop_tokens: int, windows: bool, seed: int
) -> None:
    tokens, references = token_count(samples), reference_windows(samples, hop)
    mode, codec = ("encoded_windows", WINDOWS) if windows else ("slice", SLICES)
    crop = draw(tokens, references, crop_tokens, mode, codec, np.random.default_rng(seed))
    assert crop.start >= 0
    assert crop.start + crop.length <= tokens
    assert crop.length == min(crop_tokens, tokens)
    heard = range(crop.start * 1920, (crop.start + crop.length) * 1920)
    if windows:
        windows_begun = (crop.start - crop.phase * 256) // 1024
        first = crop.phase * 1_966_560 // 4 + windows_begun * 1_966_560
        heard = range(first, first + -(-crop.length // 1024) * 1_966_560)
    for window in crop.references:
        begin, end = references[window]
        assert end <= heard.start or begin >= heard.stop


@settings(max_examples=100, deadline=None)
@given(
    seconds=st.floats(20, 400),
    stretch=st.sampled_from([1.0, 0.8, 0.9, 1.1, 1.2]),
    crop_tokens=st.sampled_from([1024, 4096]),
    seed=st.integers(0, 2**32 - 1),
)
def test_nor_in_stretched_songs_whose_windows_went_through_a_shards_seconds(
    seconds: float, stretch: float, crop_tokens: int, seed: int
) -> None:
    samples = round(seconds * 48_000 / stretch)
    starts_48k = [*range(0, samples - REFERENCE, 491_520), samples - REFERENCE] if samples >= REFERENCE else []
    written = [(to_seconds(s, 48_000), to_seconds(s + REFERENCE, 48_000)) for s in starts_48k]
    read = [(to_samples(a, 48_000), to_samples(b, 48_000)) for a, b in written]
    assert read == [(s, s + REFERENCE) for s in starts_48k], "seconds in a shard lose no sample"
    crop = draw(token_count(samples), read, crop_tokens, "slice", SLICES, np.random.default_rng(seed))
    for begin, end in (read[window] for window in crop.references):
        assert end <= crop.start * 1920 or begin >= (crop.start + crop.length) * 1920


@settings(max_examples=50, deadline=None)
@given(samples=st.integers(20 * 48_000, 60 * 48_000), seed=st.integers(0, 1000))
def test_reference_is_missing_only_where_no_crop_leaves_room_for_one(samples: int, seed: int) -> None:
    tokens, references = token_count(samples), reference_windows(samples, 24_000)
    crop = draw(tokens, references, 512, "slice", SLICES, np.random.default_rng(seed))
    possible = any(
        end <= max(0, start - 1) * 1920 or begin >= (start + crop.length + 1) * 1920
        for start in range(tokens - crop.length + 1)
        for begin, end in references
    )
    assert bool(crop.references) == possible


def test_short_song_is_taken_whole_and_has_no_reference() -> None:
    crop = draw(300, [(0, 240_000)], 512, "slice", SLICES, np.random.default_rng(0))
    assert (crop.start, crop.length, crop.references) == (0, 300, ())


def test_window_crops_start_where_a_stored_window_starts() -> None:
    begin = starts(5000, 1024, "encoded_windows", WINDOWS)
    assert all((start - 256 * phase) % 1024 == 0 for phase, start in begin)
    assert {int(phase) for phase in begin[:, 0]} == {0, 1, 2, 3}
    assert len(begin) == 4 * 4  # from 0..3072 in phase 0 to 768..3840 in phase 3, all <= 3976


def test_every_slice_is_equally_likely() -> None:
    rng = np.random.default_rng(3)
    drawn = [draw(120, [], 101, "slice", SLICES, rng).start for _ in range(4000)]
    counts = np.bincount(drawn, minlength=20)
    chi_square = ((counts - 200) ** 2 / 200).sum()
    assert len(counts) == 20
    assert chi_square < 43.8  # 0.999 quantile of chi-square with 19 degrees of freedom


def test_slice_extent_has_the_codec_margin_on_both_sides() -> None:
    assert extents(np.array([[0, 10]]), 5, "slice", SLICES).tolist() == [[9 * 1920, 16 * 1920]]


def test_a_window_may_touch_what_was_heard_and_not_share_a_sample_with_it() -> None:
    windows = [(0, 100), (0, 101), (199, 300), (200, 300), (120, 130), (50, 250)]
    assert free_windows(np.array([[100, 200]]), windows).tolist() == [[True, False, False, True, False, False]]


def test_slice_is_refused_for_a_codec_with_windows() -> None:
    with pytest.raises(BadInput, match="crop_mode: encoded_windows"):
        check_mode("slice", WINDOWS)


def test_encoded_windows_are_refused_for_a_codec_without() -> None:
    with pytest.raises(BadInput, match="crop_mode: slice"):
        check_mode("encoded_windows", SLICES)
