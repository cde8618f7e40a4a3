"""Generation: exact length, the loudness gain undone, guidance, long songs, and what can't be played along with."""

from copy import deepcopy
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from model import checkpoint
from model.checkpoint import Progress
from model.config import MASK, ModelConfig, SamplerConfig, TrainRun
from model.denoising import Conditions, Song, denoise, denoise_many, guidance_rows, predictor
from model.generate import Generator, Request
from model.network import MaskPredictor
from model.sampling import FREE
from pipeline.audio import apply_gain, peak_dbfs, rms_dbfs
from pipeline.codec.codec import token_count
from pipeline.errors import BackendUnavailable, BadInput
from pipeline.loudness import LoudnessConfig
from pipeline.types import Audio

TINY = ModelConfig(layers=1, width=16, heads=2, kv_heads=1, head_dim=8, ffn=32, prefix_width=384, attention_dropout=0.0)
FAST = SamplerConfig(steps=3)


def save_model(
    folder: Path,
    model: ModelConfig = TINY,
    progress: Progress | None = None,
    loudness: LoudnessConfig = LoudnessConfig(),  # noqa: B008  # frozen
) -> Path:
    run = TrainRun(model=model, loudness=loudness)
    torch.manual_seed(0)
    network = MaskPredictor(model, rtd=True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(10)  # a network whose opinions differ from code to code
    checkpoint.save(folder / "final", network.state_dict(), run, progress or Progress(step=1), None)
    return folder


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return Generator(save_model(tmp_path_factory.mktemp("run")))


def voice(samples: int, sample_rate: int = 48_000, channels: int = 1, level: float = 0.1) -> Audio:
    time = np.arange(samples) / sample_rate
    tone = level * np.sin(2 * np.pi * 220 * time) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    return Audio(np.repeat(tone[None], channels, axis=0).astype(np.float32), sample_rate)


def test_a_section_is_played_anew_and_every_other_code_stays(generator: Generator) -> None:
    vocal = voice(3 * 48_000)
    first = generator(vocal, None, None, FAST, seed=0).codes
    fixed = first.astype(np.int64)
    fixed[20:40] = FREE
    again = generator(vocal, None, None, FAST, seed=1, fixed=fixed).codes
    assert (again[:20] == first[:20]).all()
    assert (again[40:] == first[40:]).all()
    assert (again[20:40] != first[20:40]).any()
    with pytest.raises(BadInput, match="76 kept codes do not fit a vocal of 51"):
        generator(voice(2 * 48_000), None, None, FAST, seed=1, fixed=fixed)


@pytest.mark.parametrize("samples", [48_000, 47_999, 48_001, 49_920, 1, 1919, 1920])
def test_the_accompaniment_is_as_long_as_the_vocal_to_the_sample(generator: Generator, samples: int) -> None:
    vocal = Audio(np.full((1, samples), 0.1, np.float32), 48_000)
    made = generator(vocal, None, None, FAST, seed=0)
    assert made.accompaniment.samples.shape == (2, samples)
    assert made.accompaniment.sample_rate == 48_000
    assert made.codes.shape == (token_count(samples),)
    assert int(made.codes.max()) < MASK


def test_other_rates_and_channel_counts_are_taken(generator: Generator) -> None:
    made = generator(voice(44_100, 44_100, channels=3), None, None, FAST, seed=0)
    assert made.accompaniment.length == 48_000


def test_phases_are_timed_and_steps_are_told(generator: Generator) -> None:
    told: list[tuple[int, int]] = []
    made = generator(voice(48_000), None, None, FAST, 0, lambda done, total: told.append((done, total)))
    assert list(made.seconds) == ["encode", "denoise", "decode"]
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_same_seed_same_codes_and_another_seed_others(generator: Generator) -> None:
    one, again, other = (generator(voice(96_000), None, None, FAST, seed).codes for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_level_of_the_vocal_changes_the_level_of_the_answer_and_no_code(generator: Generator) -> None:
    loud, quiet = voice(96_000, level=0.2), apply_gain(voice(96_000, level=0.2), -26.0)
    first, second = (generator(vocal, None, None, FAST, seed=5) for vocal in (loud, quiet))
    assert np.array_equal(first.codes, second.codes)
    assert second.gain_db - first.gain_db == pytest.approx(26.0, abs=1e-3)
    gap = (first.played_gain_db - second.played_gain_db, rms_dbfs(first.accompaniment) - rms_dbfs(second.accompaniment))
    assert gap[0] == pytest.approx(gap[1], abs=0.01)
    assert second.played_gain_db == pytest.approx(-second.gain_db)


def test_the_loudness_rule_of_training_is_that_of_generation(tmp_path: Path) -> None:
    soft = Generator(save_model(tmp_path, loudness=LoudnessConfig(rms=-26.0, peak=-6.0)))
    made = soft(voice(96_000, level=0.2), None, None, FAST, seed=5)
    assert made.gain_db == pytest.approx(-26 - rms_dbfs(voice(96_000, level=0.2)), abs=1e-3)
    loud = soft(voice(96_000, level=1.0), None, None, FAST, seed=5)
    assert peak_dbfs(loud.accompaniment) <= -6 + 1e-3


def test_the_answer_never_clips(generator: Generator) -> None:
    made = generator(voice(96_000, level=1.0), None, None, FAST, seed=5)
    assert peak_dbfs(made.accompaniment) <= -0.999


def test_text_and_reference_fill_their_slots(generator: Generator) -> None:
    nothing = generator.conditions(None, None, FAST)
    assert nothing.missing_P.tolist() == [True, True]
    text = generator.conditions("a slow waltz", None, FAST)
    assert text.missing_P.tolist() == [False, True]
    assert np.allclose(text.vectors_PW[0], generator.conditioner.text(["a slow waltz"])[0])
    both = generator.conditions("a slow waltz", voice(48_000 * 5), FAST)
    assert both.missing_P.tolist() == [False, False]
    assert float(both.vectors_PW[1].norm()) > 0


def test_the_released_inference_can_be_asked_for(generator: Generator) -> None:
    upstream = SamplerConfig(prefix_order="reference_text", missing_text="empty_text")
    found = generator.conditions(None, None, upstream)
    assert found.missing_P.tolist() == [True, False]
    assert np.allclose(found.vectors_PW[1], generator.conditioner.text([""])[0])


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros((1, 0), np.float32), "empty"),
        (np.zeros((1, 48_000), np.float32), "silent"),
        (np.full((2, 48_000), 5e-4, np.float32), "silent"),
        (np.full((1, 48_000), np.nan, np.float32), "not_finite"),
    ],
)
def test_a_vocal_that_can_not_be_used_is_refused(generator: Generator, samples: np.ndarray, reason: str) -> None:
    with pytest.raises(BadInput) as caught:
        generator(Audio(samples, 48_000), None, None, FAST, seed=0)
    assert caught.value.reason == reason


def test_a_silent_reference_is_refused(generator: Generator) -> None:
    with pytest.raises(BadInput, match="the reference is silent"):
        generator(voice(48_000), None, Audio(np.zeros((1, 48_000), np.float32), 48_000), FAST, seed=0)


def test_weights_of_another_codec_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path, progress=Progress(codec_sha256="another"))
    with pytest.raises(BackendUnavailable, match="codec weights another"):
        Generator(tmp_path)


def test_a_model_of_another_prefix_width_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, TINY.model_copy(update={"prefix_width": 8}))
    with pytest.raises(BackendUnavailable, match="384 values, the model takes 8"):
        Generator(tmp_path)


def test_windows_keep_what_the_window_before_them_wrote(generator: Generator) -> None:
    vocal = np.random.default_rng(0).integers(0, 16_384, 100).astype(np.uint16)
    null = generator.conditions(None, None, FAST)
    windowed = FAST.model_copy(update={"long": "windowed", "window_tokens": 40, "overlap_tokens": 10})
    told: list[tuple[int, int]] = []
    codes = denoise(generator.network, vocal, null, windowed, 3, lambda done, total: told.append((done, total)))
    alone = denoise(generator.network, vocal[:40], null, FAST, 3)
    assert np.array_equal(codes[:40], alone)
    assert codes.shape == (100,)
    assert told[-1] == (9, 9)
    assert int(codes.max()) < MASK


def test_every_window_draws_numbers_of_its_own(generator: Generator) -> None:
    network = deepcopy(generator.network)
    torch.nn.init.zeros_(network.to_logits.weight)  # codes follow the numbers drawn alone
    plain = SamplerConfig(steps=1, top_k=0, top_p=1.0, long="windowed", window_tokens=40, overlap_tokens=10)
    codes = denoise(network, np.zeros(100, np.uint16), generator.conditions(None, None, plain), plain, 3)
    first, second, third = codes[:30], codes[40:70], codes[70:]
    assert max((one == other).mean() for one, other in combinations((first, second, third), 2)) < 0.1


def test_a_song_within_the_window_is_the_same_whole_or_windowed(generator: Generator) -> None:
    vocal = np.arange(30, dtype=np.uint16)
    null = generator.conditions(None, None, FAST)
    windowed = FAST.model_copy(update={"long": "windowed", "window_tokens": 40, "overlap_tokens": 10})
    assert np.array_equal(
        denoise(generator.network, vocal, null, FAST, 1), denoise(generator.network, vocal, null, windowed, 1)
    )


def logits(
    network: MaskPredictor, conditions: Conditions, config: SamplerConfig, progress: float = 0.0
) -> torch.Tensor:
    vocal_1T = torch.arange(12)[None]
    masked_1T = torch.arange(12)[None] % 3 > 0
    accompaniment_1T = vocal_1T.masked_fill(masked_1T, MASK)
    predict = predictor(network, vocal_1T, torch.ones_like(masked_1T), [conditions], config)
    with torch.no_grad():
        return torch.cat(list(predict(accompaniment_1T, masked_1T, progress)))


def heedful_network() -> MaskPredictor:
    """A network in which conditions matter."""
    torch.manual_seed(0)
    return MaskPredictor(TINY.model_copy(update={"init_std": 0.2}), rtd=False).eval()


def test_guidance_joins_separate_passes_as_written() -> None:
    network, given = heedful_network(), torch.randn(2, 384, generator=torch.Generator().manual_seed(1))
    off = SamplerConfig()
    both, text, none = (
        logits(network, Conditions(given, torch.tensor(missing)), off)
        for missing in ([False, False], [False, True], [True, True])
    )
    conditions = Conditions(given, torch.tensor([False, False]))
    for scale_text, scale_reference in ((1.0, 1.0), (2.0, 2.0), (1.5, 3.0), (0.0, 0.0), (1.0, 0.0)):
        config = SamplerConfig(guidance_text=scale_text, guidance_reference=scale_reference)
        expected = none + scale_text * (text - none) + scale_reference * (both - text)
        torch.testing.assert_close(logits(network, conditions, config), expected, rtol=1e-4, atol=1e-4)


def test_guidance_runs_only_the_rows_it_needs() -> None:
    given = torch.tensor([False, False])
    counts = [
        len(guidance_rows(given, SamplerConfig(guidance_text=a, guidance_reference=b)))
        for a, b in ((1.0, 1.0), (2.0, 2.0), (2.0, 1.0))
    ]
    assert counts == [1, 2, 3]


def test_the_row_with_text_alone_keeps_the_text_wherever_its_slot_is_and_whether_there_is_one() -> None:
    rows = {
        (order, missing): guidance_rows(
            torch.tensor(missing), SamplerConfig(guidance_text=2.0, guidance_reference=1.0, prefix_order=order)
        ).tolist()
        for order in ("text_reference", "reference_text")
        for missing in ((False, False), (True, False))
    }
    assert rows["text_reference", (False, False)] == [[False, False], [False, True], [True, True]]
    assert rows["reference_text", (False, False)] == [[False, False], [True, False], [True, True]]
    assert rows["text_reference", (True, False)] == [[True, False], [True, True], [True, True]]
    assert rows["reference_text", (True, False)] == [[True, False], [True, False], [True, True]]


def test_guidance_acts_within_its_interval_alone() -> None:
    network, given = heedful_network(), torch.randn(2, 384, generator=torch.Generator().manual_seed(1))
    conditions = Conditions(given, torch.tensor([False, False]))
    scales = {"guidance_text": 2.0, "guidance_reference": 3.0}
    off, always = SamplerConfig(), SamplerConfig(**scales)
    middle = SamplerConfig(**scales, guidance_interval=(0.25, 0.75))
    found = [logits(network, conditions, middle, progress) for progress in (0.0, 0.25, 0.5, 0.75)]
    plain, led = (logits(network, conditions, config) for config in (off, always))
    assert not torch.allclose(plain, led)
    for ours, wanted in zip(found, (plain, led, led, plain), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"two shares of the steps in order, got 0\.8 and 0\.2"):
        SamplerConfig(guidance_interval=(0.8, 0.2))


LENGTHS = (70, 25, 41)


def some_songs(generator: Generator) -> list[Song]:
    """Three songs of unequal lengths and conditions; of the last a part is kept."""
    draw = np.random.default_rng(4)
    given = [generator.conditions(text, None, FAST) for text in ("a slow waltz", None, "loud rock")]
    vocals = [draw.integers(0, 16_384, length).astype(np.uint16) for length in LENGTHS]
    kept = np.where(np.arange(41) % 4 == 0, 77, FREE)
    fixed = (None, None, kept)
    return [Song(*row) for row in zip(vocals, given, (5, 6, 7), fixed, strict=True)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"guidance_text": 3.0, "guidance_reference": 3.0},
        {"guidance_text": 2.0, "guidance_reference": 1.5, "guidance_interval": (0.0, 0.5)},
        {"long": "windowed", "window_tokens": 30, "overlap_tokens": 10},
        {"entropy_bound": 0.5, "steps": 6},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_a_song_is_the_same_alone_and_among_others_of_other_lengths(
    generator: Generator, changes: dict[str, object]
) -> None:
    config = SamplerConfig.model_validate(FAST.model_dump() | changes)
    songs, network = some_songs(generator), heedful_network().double()  # in which rounding decides no draw
    together = denoise_many(network, songs, config)
    assert [len(codes) for codes in together] == list(LENGTHS)
    for song, codes in zip(songs, together, strict=True):
        assert np.array_equal(denoise_many(network, [song], config)[0], codes)
        assert int(codes.max()) < MASK
    assert (together[2][::4] == 77).all()
    untold = replace(songs[2], conditions=songs[1].conditions)
    assert not np.array_equal(denoise_many(network, [untold], config)[0], together[2]), "else conditions may go astray"


def test_steps_of_a_batch_are_told_over_all_its_windows(generator: Generator) -> None:
    config = FAST.model_copy(update={"long": "windowed", "window_tokens": 30, "overlap_tokens": 10})
    told: list[tuple[int, int]] = []
    denoise_many(generator.network, some_songs(generator), config, lambda *done: told.append(done))
    assert told == [(step, 9) for step in range(1, 10)]  # the longest has three windows of three steps


def test_requests_are_played_together_as_they_are_one_by_one(generator: Generator) -> None:
    long, short = voice(3 * 48_000), voice(48_000, level=0.2)
    wanted = [Request(long, "folk", None, 1), Request(short, None, None, 2), Request(long, "folk", None, 3)]
    together = generator.play(wanted, FAST)
    assert [made.accompaniment.length for made in together] == [long.length, short.length, long.length]
    for request, made in zip(wanted, together, strict=True):
        alone = generator(request.vocal, request.text, request.reference, FAST, request.seed)
        assert np.array_equal(made.codes, alone.codes)
        assert np.allclose(made.accompaniment.samples, alone.accompaniment.samples, atol=1e-6)
        assert list(made.seconds) == ["encode", "denoise", "decode"]
