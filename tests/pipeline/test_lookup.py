"""Copies are found among many songs by a few words, and what is found depends on the order of songs alone."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.fingerprint import SKETCH, sketch
from pipeline.records.lookup import MOST_SONGS, Indexed, Lookup, decode, encode

Words = NDArray[np.uint32]


def words(seed: int, count: int = 600) -> Words:
    return np.random.default_rng(seed).integers(1, 2**32, count, dtype=np.uint32)


def damaged(song: Words, share: float, seed: int = 0) -> Words:
    """The song with a bit flipped in a share of its words."""
    draw = np.random.default_rng(seed)
    flips = np.where(
        draw.random(len(song)) < share, np.uint32(1) << draw.integers(0, 32, len(song), dtype=np.uint32), 0
    )
    return song ^ flips.astype(np.uint32)


def indexed(*songs: Words) -> list[Indexed]:
    return [Indexed(f"{number:032x}", number // 4, sketch(song)) for number, song in enumerate(songs)]


def test_a_copy_with_nine_words_in_ten_changed_and_its_start_cut_is_found_where_it_lies() -> None:
    lookup = Lookup()
    lookup.add(indexed(*map(words, range(50))))
    [found] = lookup.candidates(sketch(damaged(words(17), 0.9)[40:]))
    assert (found.number, found.batch, found.offset) == (17, 4, 40)
    assert found.shared >= 5


def test_songs_that_share_single_words_are_no_candidates() -> None:
    songs = [words(seed) for seed in range(20)]
    for song in songs:
        song[::100] = words(99)[::100]  # the same few words in all, 100 frames apart ...
        np.random.default_rng(int(song[1])).shuffle(song)  # ... at other offsets in each
    lookup = Lookup()
    lookup.add(indexed(*songs[1:]))
    assert lookup.candidates(sketch(songs[0])) == []


def test_words_that_many_songs_have_say_nothing() -> None:
    loop = words(1, 200)  # a sketch holds all of it
    songs = [np.concatenate([loop, words(seed, 50)]) for seed in range(10, 10 + MOST_SONGS + 1)]
    lookup = Lookup()
    lookup.add(indexed(*songs))
    assert lookup.candidates(sketch(np.concatenate([loop, words(2, 50)]))) == []
    assert [found.number for found in lookup.candidates(sketch(songs[3]))] == [3]


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [7, 20, 13], [1, 2, 4, 8, 16, 9]])
def test_how_songs_were_added_changes_nothing(sizes: list[int]) -> None:
    songs = indexed(*[damaged(words(seed % 5), 0.5, seed) for seed in range(40)])
    whole, parts = Lookup(), Lookup()
    whole.add(songs)
    taken = iter(songs)
    for size in sizes:
        parts.add([next(taken) for _ in range(size)])
    for seed in range(5):
        asked = sketch(damaged(words(seed), 0.3, 100 + seed))
        assert parts.candidates(asked) == whole.candidates(asked) != []
    assert len(parts.segments) <= np.log2(40 * SKETCH)


def test_an_index_file_holds_the_songs_in_their_order() -> None:
    songs = indexed(words(1), words(2, 10), np.zeros(0, np.uint32), words(3))
    for kept, song in zip(decode(encode(songs)), songs, strict=True):
        assert (kept.track_id, kept.batch) == (song.track_id, song.batch)
        assert (kept.sketch.words.tolist(), kept.sketch.frames.tolist()) == (
            song.sketch.words.tolist(),
            song.sketch.frames.tolist(),
        )
    assert decode(encode([])) == []


def test_an_empty_index_and_a_silent_song_find_nothing() -> None:
    assert Lookup().candidates(sketch(words(1))) == []
    lookup = Lookup()
    lookup.add(indexed(words(1), np.zeros(50, np.uint32)))
    assert lookup.candidates(sketch(np.zeros(50, np.uint32))) == []
