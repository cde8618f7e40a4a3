"""Batches shrink when memory runs out, the answers stay in order, and the record says what happened."""

from collections.abc import Iterator, Sequence

import pytest
import torch

from pipeline.batching import by_length, in_batches, remark, remarks
from pipeline.errors import BackendUnavailable


class Small:
    """A stand-in for a GPU on which so many pieces fit."""

    def __init__(self, room: int) -> None:
        self.room, self.tried = room, list[int]()

    def __call__(self, pieces: Sequence[int]) -> list[int]:
        self.tried.append(len(pieces))
        if len(pieces) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return [piece * piece for piece in pieces]


@pytest.mark.parametrize(("size", "room", "tried"), [(4, 4, [4, 4, 2]), (8, 3, [8, 4, 2, 2, 2, 2, 2]), (99, 99, [10])])
def test_all_answers_in_order_whatever_fits(size: int, room: int, tried: list[int]) -> None:
    small = Small(room)
    assert in_batches(range(10), size, small, "MuQ") == [n * n for n in range(10)]
    assert small.tried == tried


def test_a_smaller_batch_is_on_the_record_once() -> None:
    with remarks() as made:
        in_batches(range(10), 8, Small(3), "MuQ")
        in_batches(range(10), 8, Small(3), "MuQ")
        remark("something else")
    assert made == [
        "MuQ: batch 8 -> 4, out of GPU memory",
        "MuQ: batch 4 -> 2, out of GPU memory",
        "something else",
    ]
    with remarks() as made:
        in_batches(range(3), 8, Small(3), "MuQ")
    assert made == []


def test_a_piece_that_does_not_fit_alone_stops_the_run() -> None:
    with pytest.raises(BackendUnavailable, match="MuQ: a GPU's memory does not hold one piece"):
        in_batches([1, 2], 2, Small(0), "MuQ")


def test_other_errors_are_not_touched() -> None:
    def broken(pieces: Sequence[int]) -> list[int]:
        raise RuntimeError("shape")

    with pytest.raises(RuntimeError, match="shape"):
        in_batches([1], 1, broken, "MuQ")


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuFFT error: CUFFT_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    ],
)
def test_libraries_below_torch_have_their_own_word_for_no_memory(said: str) -> None:
    def work(pieces: Sequence[int]) -> list[int]:
        if len(pieces) > 1:
            raise RuntimeError(said)
        return list(pieces)

    with remarks() as made:
        assert in_batches(range(3), 2, work, "Demucs") == [0, 1, 2]
    assert made == ["Demucs: batch 2 -> 1, out of GPU memory"]


def test_nothing_to_do_and_no_size() -> None:
    assert in_batches([], 4, Small(4), "MuQ") == []
    with pytest.raises(ValueError, match="batch size 0"):
        in_batches([1], 0, Small(4), "MuQ")


def test_the_longest_come_first_and_equals_keep_their_order() -> None:
    assert by_length([1.0, 3.0, 2.0, 3.0]) == [1, 3, 2, 0]


def test_filled_batches_have_one_shape_and_give_an_answer_to_each_piece_alone() -> None:
    asked: list[tuple[int, ...]] = []

    def double(batch: Sequence[int]) -> list[int]:
        asked.append(tuple(batch))
        if len(batch) > 4:
            raise torch.OutOfMemoryError
        return [2 * n for n in batch]

    with remarks() as made:
        assert in_batches(range(6), 8, double, "MuQ", filled=True) == [0, 2, 4, 6, 8, 10]
    assert asked == [(0, 1, 2, 3, 4, 5, 5, 5), (0, 1, 2, 3), (4, 5, 5, 5)]
    assert made == ["MuQ: batch 8 -> 4, out of GPU memory"]
    with pytest.raises(BackendUnavailable, match="does not hold one piece"):
        in_batches([7], 8, _never, "MuQ", filled=True)


def test_pieces_are_made_as_batches_need_them() -> None:
    made: list[int] = []
    tried: list[tuple[int, ...]] = []

    def coming() -> Iterator[int]:
        for number in range(7):
            made.append(number)
            yield number

    def work(batch: Sequence[int]) -> list[int]:
        assert made == list(range(made[-1] + 1))
        assert made[-1] == max(batch) or len(tried) == 1, (
            "none is made before its batch; two wait after the first failed"
        )
        tried.append(tuple(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return [n * n for n in batch]

    assert in_batches(coming(), 4, work, "MuQ") == [n * n for n in range(7)]
    assert tried == [(0, 1, 2, 3), (0, 1), (2, 3), (4, 5), (6,)]


def _never(batch: Sequence[int]) -> list[int]:
    raise torch.OutOfMemoryError
