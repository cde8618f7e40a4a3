"""MuCodec's windows at awkward lengths: what each one holds, when it starts, how many codes and samples come of it."""

import numpy as np
import pytest
import torch

from pipeline.codec.codec import token_count
from pipeline.codec.mucodec.windows import (
    CODE_HOP,
    FADE,
    TAKEN,
    WINDOW,
    Windows,
    crossed,
    decoding_count,
    decoding_windows,
    encoding_windows,
    hop_of,
    levelled,
    phases,
)

# 0.5 s, one window less a sample, a window, a window and a sample, 40.97 s, 163.84 s, 420 s and a sample, 10 minutes
LENGTHS = [24_000, 1_966_079, 1_966_080, 1_966_081, 1_966_560, 7_864_320, 20_160_001, 28_800_000]
CODES = [13, 1024, 1025, 1025, 1025, 4097, 10_501, 15_001]
WINDOWS = [1, 1, 2, 2, 2, 5, 11, 15]  # that the codes need; the released code hears one more for some
CASES = list(zip(LENGTHS, CODES, WINDOWS, strict=True))


def released_windows(ramp: np.ndarray) -> np.ndarray:
    """The released code's way to its windows, by doubling: ``[windows, 1966560]``."""
    length = len(ramp)
    while length < WINDOW + 480:
        ramp, length = np.concatenate([ramp, ramp]), 2 * length
    count = length // WINDOW + 1
    return np.concatenate([ramp, ramp])[: count * TAKEN].reshape(-1, TAKEN)


@pytest.mark.parametrize(("samples", "codes", "windows"), CASES)
def test_windows_as_released(samples: int, codes: int, windows: int) -> None:
    assert token_count(samples) == codes
    ramp = torch.arange(samples, dtype=torch.float32)[None]
    ours = encoding_windows(ramp, codes, "released")
    assert ours.shape == (windows, 1, TAKEN)
    theirs = released_windows(ramp[0].numpy())
    assert len(theirs) >= windows
    for mine, other in zip(ours, theirs, strict=False):
        assert np.array_equal(mine[0].numpy(), other)


@pytest.mark.parametrize(("samples", "codes", "windows"), CASES)
def test_windows_without_drift(samples: int, codes: int, windows: int) -> None:
    """Window k starts at k * 40.96 s, and silence follows the song."""
    ramp = 1 + torch.arange(samples, dtype=torch.float32)[None]
    ours = encoding_windows(ramp, codes, "zero_pad")
    assert ours.shape == (windows, 1, TAKEN)
    for number, window in enumerate(ours):
        stretch = ramp[0, number * WINDOW : number * WINDOW + TAKEN]
        assert torch.equal(window[0, : len(stretch)], stretch)
        assert not window[0, len(stretch) :].any()


def test_where_the_released_count_of_codes_is_one_less() -> None:
    """It is computed in floating point: 1145 of 17,500 whole multiples of 40 ms come out a hair too small."""
    less = [n for n in range(0, 700 * 48_000, 1920) if int(n / 48_000.0 * 25) + 1 != token_count(n)]
    assert (len(less), less[0] / 48_000) == (1145, 1.16)
    assert all(int(n / 48_000.0 * 25) + 1 == token_count(n) - 1 for n in less)
    assert not set(less) & set(LENGTHS)


@pytest.mark.parametrize(("rule", "drift"), [("released", 480), ("zero_pad", 0)])
def test_drift_of_a_window(rule: Windows, drift: int) -> None:
    assert hop_of(rule) - WINDOW == drift  # samples: 10 ms, or none
    starts = [(phase.first_code, phase.first_sample) for phase in phases(4, rule)]
    assert starts == [(256 * f, (WINDOW + drift) * f // 4) for f in range(4)]


@pytest.mark.parametrize("codes", [1, 13, 1023, 1024, 1025, 1664, 1792, 1793, 4097, 10_501, 15_001])
def test_windows_of_codes(codes: int) -> None:
    """1024 codes every 768, the last one filled with the song's codes from its start; all codes are in one."""
    points = torch.arange(codes)[None].double()
    windows = decoding_windows(points)
    assert windows.shape == (decoding_count(codes), 1, 1024)
    assert len(windows) == (1 if codes <= 1024 else -(-(codes - 1024) // CODE_HOP) + 1)
    for number, window in enumerate(windows):
        assert window[0].tolist() == [(number * CODE_HOP + place) % codes for place in range(1024)]
    assert (len(windows) - 1) * CODE_HOP + 1024 >= codes


def test_the_released_plan_of_windows_where_it_has_one() -> None:
    """Its count, written out; at 768 k + 128 codes from 1664 on it stops with an error, and we go on."""
    for codes in range(1, 6000):
        length = max(codes, 1024)
        if (length - 128) % 768 > 0:
            length = -(-(length - 256) // 768) * 768 + 256
            assert decoding_count(codes) == len(range(0, length - 768, 768))
        else:
            assert codes % 768 == 128
            assert codes >= 1664


def test_fades_add_up_to_one() -> None:
    parts = [torch.full((2, 10), value) for value in (1.0, 1.0, 4.0)]
    whole = crossed(parts, 4)
    assert whole.shape == (2, 22)
    assert torch.equal(whole[:, :12], torch.ones(2, 12))
    torch.testing.assert_close(whole[0, 12:16], torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert parts[0].tolist() == torch.ones(2, 10).tolist()


@pytest.mark.parametrize(("codes", "windows"), [(1025, 2), (1501, 2), (1800, 3)])
def test_sound_of_several_windows_sample_by_sample(codes: int, windows: int) -> None:
    """40.97 s, 60 s and 72 s: a sample is what its windows say of its place, the later one's share growing in
    equal steps from none at its first sample to all 10.24 s on; no third window has a say.
    """
    assert decoding_count(codes) == windows
    waves = np.random.default_rng(codes).standard_normal((windows, WINDOW))
    sound = crossed([torch.from_numpy(wave)[None] for wave in waves], FADE)[0, : codes * 1920].numpy()
    assert len(sound) == codes * 1920
    hop, fade = 768 * 1920, 256 * 1920
    places = np.arange(codes * 1920)
    later = np.minimum(places // hop, windows - 1)  # the last window that has begun
    within = places - later * hop
    share = np.where(later > 0, np.minimum(within / (fade - 1), 1.0), 1.0)
    earlier = np.where(share < 1, waves[later - 1, np.minimum(within + hop, WINDOW - 1)], 0.0)
    np.testing.assert_allclose(sound, share * waves[later, within] + (1 - share) * earlier, rtol=0, atol=1e-12)


def test_only_loud_audio_is_brought_down() -> None:
    quiet, loud = torch.tensor([[0.5, -0.8]]), torch.tensor([[0.5, 0.1], [-1.0, 0.0]])
    assert torch.equal(levelled(quiet), quiet)
    torch.testing.assert_close(levelled(loud), loud * 0.8)
