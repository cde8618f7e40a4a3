"""Sounds of unequal length through MuQ together: bit for bit what each gives alone, whoever comes with it."""

from functools import partial
from typing import cast

import pytest
import torch
from test_muq import TINY, noise, tiny
from tiny_mucodec import randomised
from torch import Tensor, nn

from pipeline.assets.needs import Needs
from pipeline.batching import remarks
from pipeline.encoders.muq.network import MuQ, MuQShape
from pipeline.encoders.muq.together import alone, heard, shape, states
from pipeline.encoders.musicfm import MusicFM
from pipeline.quality.songeval.network import SongEval

RATE = 24_000
LENGTHS = (1025, 12_000, 31_007, 24_000, 24_240, 43_200, 12_000, 48_960)  # samples; 43 ms to 2.04 s
SIZE = Needs(batch_seconds=4.0).batch_size  # four of 1 s, two of 2 s, longer ones alone
STEP = 25  # states, 1 s
hear = partial(heard, size=SIZE, name="MuQ", step=STEP)


@pytest.fixture(scope="module")
def sounds() -> list[Tensor]:
    """Each another noise, ever louder."""
    parts = torch.split(noise(sum(LENGTHS))[0], list(LENGTHS))
    return [part * (number + 1) for number, part in enumerate(parts)]


@pytest.fixture(scope="module")
def small() -> MuQ:
    return cast(MuQ, randomised(MuQ(MuQShape(width=64, layers=3, heads=2, inner=48, kernel=31, channels=4))))


def apart(answer: Tensor, true: Tensor) -> float:
    """Against the largest absolute value."""
    return float((answer - true).abs().max() / true.abs().max())


@pytest.mark.parametrize(("precision", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("depth", [1, TINY.layers])
def test_what_is_not_real_is_neither_attended_to_nor_convolved(
    precision: torch.dtype, bound: float, depth: int
) -> None:
    """A row's states are those of the row alone, whatever stands behind them and however much of it."""
    network, generator = cast(MuQ, randomised(MuQ(TINY))).to(precision), torch.Generator().manual_seed(3)
    lengths = (1, 2, 15, 16, 17, 40)  # states; the kernel reaches over 15
    rows = [torch.randn(length, TINY.width, generator=generator, dtype=precision) for length in lengths]
    padded = 50.0 * torch.randn(len(rows), 57, TINY.width, generator=generator, dtype=precision)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    real = torch.arange(57) < torch.tensor(lengths)[:, None]
    answers = network.from_front(padded, depth, real)[depth]
    leaking = network.from_front(padded, depth)[depth]
    for row, answer, leak in zip(rows, answers, leaking, strict=True):
        true = network.from_front(row[None], depth)[depth][0]
        assert apart(answer[: len(row)], true) < bound
        assert apart(leak[: len(row)], true) > 1e-2


@pytest.mark.parametrize(("precision", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_songevals_head_counts_what_is_real_alone(precision: torch.dtype, bound: float) -> None:
    head, generator = cast(SongEval, randomised(SongEval(16, 24))).to(precision), torch.Generator().manual_seed(3)
    rows = [torch.randn(length, 16, generator=generator, dtype=precision) for length in (1, 7, 30)]
    padded = 50.0 * torch.randn(3, 33, 16, generator=generator, dtype=precision)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    real = torch.arange(33) < torch.tensor([[1], [7], [30]])
    true = torch.cat([head(row[None]) for row in rows])
    assert apart(head(padded, real), true) < bound
    assert apart(head(padded), true) > 1e-3


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_a_sound_has_the_states_that_it_has_alone(small: MuQ, sounds: list[Tensor], layer: int) -> None:
    by_itself = [hear([sound], small, small, layer)[0] for sound in sounds]
    for order in (range(8), (7, 2, 0, 5, 1, 6, 4, 3), (3, 1), (5, 7, 6)):
        for place, answer in zip(order, hear([sounds[place] for place in order], small, small, layer), strict=True):
            assert torch.equal(answer, by_itself[place])
    for sound, answer in zip(sounds, by_itself, strict=True):
        released = small(sound[None], last=layer)[layer][0]
        assert answer.shape == released.shape
        assert apart(answer, released) < 1e-5
    assert torch.equal(by_itself[7], small(sounds[7][None], last=layer)[layer][0])  # it fills a batch


def test_where_a_batch_gains_nothing_every_sound_is_heard_as_released(small: MuQ, sounds: list[Tensor]) -> None:
    answers = heard(sounds, small, small, 2, alone, "MuQ")
    for sound, answer in zip(sounds, answers, strict=True):
        assert torch.equal(answer, small(sound[None], last=2)[2][0])


def test_musicfm_hears_together_on_its_own_scale(small: MuQ, sounds: list[Tensor]) -> None:
    ears = MusicFM(small, 2.0, 5.0)
    answers = hear(sounds, ears, small, 2)
    for sound, answer in zip(sounds, answers, strict=True):
        assert apart(answer, ears(sound[None], 2)[2][0]) < 1e-5


class Shapes:
    """What reaches the front, and the conformer's first layer."""

    def __init__(self, network: MuQ) -> None:
        self.front, self.conformer = list[int](), list[tuple[int, int]]()
        network.conv.register_forward_pre_hook(self._at_the_front)
        cast(nn.Module, network.conformer.layers[0]).register_forward_pre_hook(self._behind)

    def _at_the_front(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        self.front.append(inputs[0].shape[2])

    def _behind(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.conformer.append((inputs[0].shape[0], inputs[0].shape[1]))


def test_shapes_follow_from_a_sounds_own_length_and_no_copy_is_heard_at_the_front(sounds: list[Tensor]) -> None:
    network = tiny()
    seen = Shapes(network)
    hear(sounds, network, network, 1)
    assert sorted(seen.front) == sorted(length // 240 for length in LENGTHS)
    assert sorted(seen.conformer) == [(1, 51), (2, 50), (2, 50), (4, 25)]


def test_out_of_memory_tries_fewer_and_gives_the_same_answers(small: MuQ, sounds: list[Tensor]) -> None:
    true = hear(sounds, small, small, 2)

    def narrow(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = cast(nn.Module, small.conformer.layers[0]).register_forward_pre_hook(narrow)
    with remarks() as made:
        answers = hear(sounds, small, small, 2)
    hook.remove()
    assert made == ["MuQ: batch 4 -> 2, out of GPU memory"]
    assert all(apart(answer, one) < 1e-5 for answer, one in zip(answers, true, strict=True))


@pytest.mark.parametrize(
    ("seconds", "length", "rows", "room"),
    [
        (0.5, 13, 14, 750),
        (29.99, 750, 14, 750),
        (30.0, 750, 14, 750),
        (40.96, 1024, 7, 1500),
        (40.97, 1025, 7, 1500),
        (163.84, 4096, 2, 4500),
        (420 + 1 / RATE, 10_500, 1, 10_500),
        (600.0, 15_000, 1, 15_000),
    ],
)
def test_batches_at_awkward_lengths(seconds: float, length: int, rows: int, room: int) -> None:
    assert states(round(seconds * RATE)) == length
    assert shape(length, Needs(batch_seconds=420.0).batch_size, 750) == (rows, room)
    with torch.device("meta"):
        assert MuQ(TINY)(torch.empty(1, round(seconds * RATE)), last=0)[0].shape[1] == length


def test_answers_come_in_the_order_of_the_sounds_and_none_for_none(small: MuQ) -> None:
    assert hear([], small, small, 1) == []
    short = [noise(length)[0] for length in (48_000, 2400, 24_000)]
    assert [len(answer) for answer in hear(short, small, small, 1)] == [50, 3, 25]
