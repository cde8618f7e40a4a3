"""Pieces of audio through a network, as many at a time as fit: out of memory, fewer are tried, and the record says so.

Conventions: a piece's answer does not depend on its batch mates, so a smaller batch changes no result beyond rounding;
whoever calls this promises (and tests) that. The remark goes to whoever listens with `remarks`: the engine, which puts
it into the ledger's row of the song.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import TypeVar

from pipeline.errors import BackendUnavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
OUT_OF_MEMORY = "out of GPU memory"  # ends the remark of a batch that had to shrink
_FULL = re.compile("ALLOC(ATION)?_FAILED")  # what cuBLAS, cuFFT, cuDNN and cuSOLVER say when memory is out
_REMARKS: ContextVar[list[str] | None] = ContextVar("remarks", default=None)


@contextmanager
def remarks() -> Iterator[list[str]]:
    """The remarks that are made inside, in order, each once."""
    made: list[str] = []
    token = _REMARKS.set(made)
    try:
        yield made
    finally:
        _REMARKS.reset(token)


def remark(text: str) -> None:
    """Tell the log, and the record of the piece of work that is going on, if one is."""
    logger.warning("%s", text)
    made = _REMARKS.get()
    if made is not None and text not in made:
        made.append(text)


def in_batches(
    pieces: Iterable[T], size: int, work: Callable[[Sequence[T]], Sequence[R]], name: str, filled: bool = False
) -> list[R]:
    """`work` on up to `size` pieces at a time; its answers in the order of the pieces.

    Pieces are asked for as batches need them: those of several songs need not be in memory at once.

    `filled`: the last batch is made whole with its last piece again and again. Then every batch has one shape, and a
    piece has the same answer, bit for bit, whichever pieces come with it: for batches of several songs.

    Where the GPU's memory doesn't hold a batch, half of it is tried, and the size stays at that. `BackendUnavailable`
    where it doesn't hold a single piece: the same song would fail on this machine again and again.
    """
    if size < 1:
        raise ValueError(f"batch size {size}; give at least 1")
    coming, held, done = iter(pieces), list[T](), list[R]()
    while held := [*held, *islice(coming, max(0, size - len(held)))]:
        batch = held[:size]
        asked = [*batch, *[batch[-1]] * (size - len(batch))] if filled else batch
        answers = _tried(asked, work)
        if answers is not None:
            done += _whole(answers, len(asked), name)[: len(batch)]
            held = held[len(batch) :]
        elif len(asked) == 1:
            raise BackendUnavailable(f"{name}: a GPU's memory does not hold one piece; give its workers more of a GPU")
        else:
            remark(f"{name}: batch {len(asked)} -> {len(asked) // 2}, {OUT_OF_MEMORY}")
            size = len(asked) // 2
    return done


def _tried(batch: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> Sequence[R] | None:
    """The answers; None where memory did not suffice. The failed attempt's tensors are gone when this returns."""
    import torch  # here: modules without a network import this one too

    try:
        return work(batch)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    # Here, for the traceback, which holds the tensors, died with that block.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether it is the GPU's memory that was not enough: torch's own word for it, or that of a library below it."""
    torch = sys.modules.get("torch")  # not loaded for the sake of the question
    return torch is not None and (isinstance(error, torch.OutOfMemoryError) or bool(_FULL.search(str(error))))


def _whole(answers: Sequence[R], expected: int, name: str) -> Sequence[R]:
    if len(answers) != expected:
        raise AssertionError(f"{name} gave {len(answers)} answers to {expected} pieces")
    return answers


def by_length(lengths: Sequence[float]) -> list[int]:
    """Indices from the longest piece to the shortest: neighbours pad each other least, the biggest come first."""
    return sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
