"""What every port with windows hears of songs of 0.5 s, 40.96 s, 40.97 s, 163.84 s, 420 s and a sample, 10 minutes:
how many windows, where they begin, and that nothing is lost or heard twice that should not be.

Conventions: networks are stand-ins that hand back what they hear, so that the answer tells which samples went where.
MuCodec's windows, the most awkward ones, have tests of their own (`test_mucodec_windows`).
"""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.annotation.lyrics import windows
from pipeline.annotation.qwen2_audio import excerpts
from pipeline.codec.codec import token_count
from pipeline.conditioning.clamp3.network import LENGTH
from pipeline.encoders.mert import network as mert
from pipeline.quality.songeval.rater import pieces
from pipeline.separation import demucs_segments
from pipeline.separation.bsrnn.backend import BandSplitSeparator
from pipeline.separation.bsrnn.network import BandSplitRNN
from pipeline.separation.bsrnn.network import Shape as BandShape
from pipeline.separation.stage import SeparationConfig
from pipeline.structure.songformer import frames
from pipeline.types import Audio

SECONDS = [0.5, 40.96, 40.97, 163.84, 420.0, 600.0]
MORE = [0, 0, 0, 0, 1, 0]  # samples beyond them


def lengths(rate: int) -> list[int]:
    return [round(seconds * rate) + more for seconds, more in zip(SECONDS, MORE, strict=True)]


def cases(rate: int, *expected: list[int]) -> list[tuple[int, ...]]:
    """Samples with what is expected of them."""
    return list(zip(lengths(rate), *expected, strict=True))


def long_ones_slow(rate: int, *expected: list[int]) -> list[Any]:
    """The same; 7 and 10 minutes, which take seconds of work, with the slow tests."""
    found = cases(rate, *expected)
    return [pytest.param(*case, marks=pytest.mark.slow if case[0] > 400 * rate else ()) for case in found]


def noise(samples: int) -> Tensor:
    """``[2, samples]``"""
    return torch.rand(2, samples, generator=torch.Generator().manual_seed(samples)) - 0.5


def test_codes_of_a_song() -> None:
    assert [token_count(samples) for samples in lengths(48_000)] == [13, 1025, 1025, 4097, 10_501, 15_001]


class FirstSample(nn.Module):
    """Stands where MERT does: every state is a window's first sample."""

    config = SimpleNamespace(hidden_size=1, conv_kernel=(10, 3, 3, 3, 3, 2, 2), conv_stride=(5, 2, 2, 2, 2, 2, 2))
    dtype = torch.float32

    def forward(self, waves: Tensor, output_hidden_states: bool) -> Any:
        return SimpleNamespace(hidden_states=(waves[:, :1, None],))


@pytest.mark.parametrize(("samples", "count"), cases(24_000, [0, 8, 8, 33, 84, 120]))
def test_mert_hears_whole_windows_and_a_last_one_of_a_second_at_least(samples: int, count: int) -> None:
    heard = mert.normalised(noise(samples)[0])
    vectors = mert.window_vectors(FirstSample(), noise(samples)[0])  # type: ignore[arg-type]
    assert vectors.shape == (count, 1)
    assert torch.equal(vectors[:, 0], heard[:: 5 * 24_000][:count])
    assert samples - count * 5 * 24_000 < 24_000  # not heard
    assert count + 2 <= LENGTH  # one segment of CLaMP3's, both markers with it


@pytest.mark.parametrize(("samples", "chunks"), cases(48_000, [1, 2, 2, 6, 14, 20]))
def test_released_code_hears_chunks_of_30_s_and_not_the_sample_that_is_left(samples: int, chunks: int) -> None:
    """48 kHz taken for 24: chunks of 60 s are 30. One sample beyond 420 s would stop the network."""
    song, network = noise(samples)[0], FirstSample()
    heard = list[int]()
    network.register_forward_pre_hook(lambda module, args, asked: heard.append(args[0].shape[1]), with_kwargs=True)
    rounded = mert.normalised(song.bfloat16().float())[:: 60 * 24_000][:chunks]
    vector = mert.released_vector(network, song)  # type: ignore[arg-type]
    assert len(heard) == chunks
    assert samples - sum(heard) in (0, 1)
    torch.testing.assert_close(vector, rounded.mean()[None])


@pytest.mark.parametrize(("samples", "parts"), cases(24_000, [1, 1, 1, 1, 1, 1]))
def test_songeval_hears_all_of_a_song(samples: int, parts: int) -> None:
    song = noise(samples)[0]
    told = pieces(song, 600.0)
    assert len(told) == parts
    assert torch.equal(torch.cat(told), song)


@pytest.mark.parametrize(("samples", "whole", "short"), cases(24_000, [1, 1, 1, 1, 1, 2], [1, 2, 2, 6, 14, 20]))
def test_songformer_hears_stretches_and_pieces_of_them(samples: int, whole: int, short: int) -> None:
    spans = frames.stretches(samples)
    assert len(spans) == whole
    cut = [span for begin, end in spans for span in frames.pieces(end - begin)]
    assert len(cut) == short
    assert samples - sum(end - begin for begin, end in spans) in (0, 1)  # the sample beyond 420 s alone is not heard
    assert sum(end - begin for begin, end in cut) == sum(end - begin for begin, end in spans)


class Echo(BandSplitSeparator):
    """All of a song is its vocal."""

    def segments(self, samples: Tensor) -> Tensor:
        return samples


@pytest.mark.parametrize("samples", long_ones_slow(44_100))
def test_bsrnn_joins_its_segments_without_a_seam(samples: int) -> None:
    separator = Echo(SeparationConfig(backend="bsrnn"), BandSplitRNN(BandShape(1, 1, 1, 1)), "", "none")
    song = noise(samples)
    (vocal,) = separator.vocals([song])
    torch.testing.assert_close(vocal, song, rtol=0, atol=1e-6)


class SameForAll(nn.Module):
    """Stands where a Demucs does: every source is what it heard."""

    samplerate, segment, sources = 44_100, 7.8, ("drums", "bass", "other", "vocals")

    def forward(self, mixes: Tensor) -> Tensor:
        return mixes[:, None].expand(-1, len(self.sources), -1, -1)


@pytest.mark.parametrize(("samples", "segments"), long_ones_slow(44_100, [1, 8, 8, 29, 72, 103]))
def test_demucs_segments_overlap_and_join_without_a_seam(samples: int, segments: int) -> None:
    network, song = SameForAll(), noise(samples)
    heard = list[int]()
    network.register_forward_pre_hook(lambda module, args: heard.append(len(args[0])))
    (vocal,) = demucs_segments.vocals([demucs_segments.Member(network, 1.0)], [song], 0.25, at_once=1, device="cpu")
    assert sum(heard) == segments  # one every 5.85 s
    torch.testing.assert_close(vocal, song, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("samples", "count"), cases(16_000, [1, 1, 1, 3, 3, 3]))
def test_qwen2_audio_hears_excerpts_that_do_not_overlap(samples: int, count: int) -> None:
    ramp = np.arange(samples, dtype=np.float32)[None]
    told = excerpts(Audio(ramp, 16_000), 3, 30.0)
    assert [len(piece) for piece in told] == [min(samples, 480_000)] * count
    starts = [int(piece[0]) for piece in told]
    assert all(after - before >= 480_000 for before, after in pairwise(starts))
    assert starts[-1] + len(told[-1]) <= samples
    assert abs(starts[0] - (samples - starts[-1] - len(told[-1]))) <= 1  # as much before the first as after the last


@pytest.mark.parametrize(("samples", "least"), cases(16_000, [1, 2, 2, 6, 15, 20]))
def test_a_recogniser_hears_all_of_a_song_once(samples: int, least: int) -> None:
    song = noise(samples)[0].numpy()
    told = windows(song, 480_000, 80_000)
    assert least <= len(told) <= -(-samples // 400_000)  # cut somewhere in the last 5 s of 30
    assert max(map(len, told)) <= 480_000
    np.testing.assert_array_equal(np.concatenate(told), song)
