"""RoFormer through audio-separator, offline from its pulled files: a small random network of the published kind."""

import gc
import json
import math
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from pipeline.assets.known import ASSETS
from pipeline.assets.pull import install
from pipeline.audio import resample
from pipeline.errors import BackendUnavailable, BadInput
from pipeline.separation import stage
from pipeline.separation.roformer import PEAK, SAMPLE_RATE, RoformerSeparator, build
from pipeline.separation.stage import SeparationConfig
from pipeline.types import Audio

MISSING = [what for what in ("audio_separator",) if find_spec(what) is None]
MISSING += [program for program in ("ffmpeg",) if shutil.which(program) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING) and os.environ.get("CI") != "true", reason=f"RoFormer: no {MISSING}"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),  # theirs
]

# The names and shapes of the code that trained the checkpoint (ZFTurbo/Music-Source-Separation-Training, ccc011a) with
# the settings published beside it.
GOLDEN = Path(__file__).parents[1] / "golden" / "published" / "bs_roformer.json"
FRAMES = 1101  # of a segment: 11 s, for the package takes another one for what is shorter than 10 s
BANDS = [2] * 24 + [4] * 12 + [12] * 8 + [24] * 8 + [48] * 8 + [128, 129]
NETWORK = {
    "dim": 32, "depth": 1, "stereo": True, "num_stems": 1, "time_transformer_depth": 1, "freq_transformer_depth": 1,
    "linear_transformer_depth": 0, "freqs_per_bands": tuple(BANDS), "dim_head": 16, "heads": 2, "attn_dropout": 0.0,
    "ff_dropout": 0.0, "flash_attn": True, "dim_freqs_in": 1025, "stft_n_fft": 2048, "stft_hop_length": 441,
    "stft_win_length": 2048, "stft_normalized": False, "mask_estimator_depth": 2,
    "multi_stft_resolution_loss_weight": 1.0, "multi_stft_resolutions_window_sizes": (4096, 2048, 1024, 512, 256),
    "multi_stft_hop_size": 147, "multi_stft_normalized": False,
}  # fmt: skip
PUBLISHED = NETWORK | {"dim": 512, "depth": 12, "dim_head": 64, "heads": 8, "attn_dropout": 0.1, "ff_dropout": 0.1}
PUBLISHED.pop("linear_transformer_depth")  # which its settings don't name
SETTINGS: dict[str, Any] = {
    "audio": {
        "chunk_size": 441 * (FRAMES - 1), "dim_f": 1024, "dim_t": FRAMES, "hop_length": 441, "n_fft": 2048,
        "num_channels": 2, "sample_rate": SAMPLE_RATE, "min_mean_abs": 0.001,
    },
    "model": NETWORK,
    "training": {"instruments": ["Vocals", "Instrumental"], "target_instrument": "Vocals", "use_amp": True},
    "inference": {"batch_size": 1, "dim_t": FRAMES, "num_overlap": 4},
}  # fmt: skip
LISTS = (
    "demucs_download_list", "vr_download_list", "mdx_download_list", "mdx_download_vip_list", "mdx23c_download_list",
    "mdx23c_download_vip_list", "roformer_download_list", "other_network_list", "other_network_list_new",
)  # fmt: skip


def network() -> nn.Module:
    from audio_separator.separator.uvr_lib_v5.roformer.bs_roformer import BSRoformer

    torch.manual_seed(0)
    made: nn.Module = BSRoformer(**NETWORK)
    return made.eval()


def save_as_published(folder: Path, weights: dict[str, torch.Tensor], settings: object = SETTINGS) -> None:
    checkpoint, table, lists = (file.path for file in ASSETS["roformer"].files)
    torch.save(weights, folder / checkpoint)
    (folder / table).write_text(yaml.dump(settings))
    listed: dict[str, dict[str, object]] = {name: {} for name in LISTS}
    listed["roformer_download_list"] = {"BS-Roformer": {checkpoint: table}}
    (folder / lists).write_text(json.dumps(listed))


def built(folder: Path, weights: dict[str, torch.Tensor], settings: object = SETTINGS) -> RoformerSeparator:
    save_as_published(folder, weights, settings)
    install("roformer", folder, check=False)
    return build(SeparationConfig(backend="roformer"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path / "store"))
    return tmp_path


@pytest.fixture(scope="module")
def separator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoformerSeparator]:
    folder = tmp_path_factory.mktemp("roformer")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BACKLINE_ASSETS", str(folder / "store"))
        yield built(folder, network().state_dict())


def noise(seconds: float, rate: int, channels: int = 2, gain: float = 0.1) -> Audio:
    made = np.random.default_rng(0).normal(0, gain, (channels, round(seconds * rate)))
    return Audio(made.astype(np.float32), rate)


def test_names_and_shapes_are_the_published_ones() -> None:
    """Of what the package itself makes of the published settings."""
    from audio_separator.separator.roformer.roformer_loader import RoformerLoader

    with torch.device("meta"):
        told = RoformerLoader().load_model("no_bs_roformer.ckpt", SETTINGS | {"model": PUBLISHED}, "meta")
    assert told.success, told.error_message
    theirs = json.loads(GOLDEN.read_text())
    assert {name: list(tensor.shape) for name, tensor in told.model.state_dict().items()} == theirs
    numbers = sum(math.prod(shape) for shape in theirs.values())
    assert numbers * 4 / 1e9 == pytest.approx(ASSETS["roformer"].approximate_gb, abs=0.005)


@pytest.mark.parametrize(("seconds", "rate", "channels"), [(12.503, 44_100, 2), (1.0001, 48_000, 1), (0.3, 22_050, 2)])
def test_stems_add_up_to_the_mixture(
    separator: RoformerSeparator, seconds: float, rate: int, channels: int, capfd: pytest.CaptureFixture[str]
) -> None:
    mixture = noise(seconds, rate, channels)
    stems = separator(mixture)
    assert "%|" not in capfd.readouterr().err, "the package's progress bars would fill a worker's log"
    whole = resample(mixture, 48_000).samples
    assert stems.vocal.samples.shape == stems.accompaniment.samples.shape == (2, whole.shape[1])
    np.testing.assert_allclose(stems.vocal.samples + stems.accompaniment.samples - whole, 0, atol=1e-6)
    assert float(np.abs(stems.vocal.samples).max()) > 1e-3
    assert not list(separator._output.iterdir()), "nothing stays behind"


@pytest.mark.parametrize(
    "samples", [22_050, *(pytest.param(n, marks=pytest.mark.slow) for n in (1_806_336, 1_806_777))]
)
def test_songs_of_awkward_lengths_keep_theirs(separator: RoformerSeparator, samples: int) -> None:
    """0.5, 40.96 and 40.97 s: no sample lost, and the end has a vocal too."""
    mixture = Audio(np.random.default_rng(0).normal(0, 0.1, (2, samples)).astype(np.float32), SAMPLE_RATE)
    stems, whole = separator(mixture), resample(mixture, 48_000).samples
    assert stems.vocal.samples.shape == whole.shape
    np.testing.assert_allclose(stems.vocal.samples + stems.accompaniment.samples - whole, 0, atol=1e-6)
    assert float(np.abs(stems.vocal.samples[:, -4800:]).max()) > 1e-3


class Echo(nn.Module):
    """Stands where the network does: all that it hears is voice. Notes what that begins with."""

    def __init__(self) -> None:
        super().__init__()
        self.somewhere = nn.Parameter(torch.zeros(1))
        self.heard = list[tuple[float, int]]()

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        self.heard.append((float(mixture[0, 0, 0]), mixture.shape[2]))
        return mixture


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "count"), [(7_225_344, 79), (18_522_001, 208), (26_460_000, 297)])
def test_long_songs_are_heard_every_2_s_and_joined_without_a_seam(store: Path, samples: int, count: int) -> None:
    """163.84 s, 420 s and a sample, 10 minutes, in the published segments: 8 s every 2 s, the last one at the end."""
    segment, step = 441 * 800, 441 * 200
    times = {"audio": SETTINGS["audio"] | {"dim_t": 801}, "inference": SETTINGS["inference"] | {"dim_t": 801}}
    separator = built(store, network().state_dict(), SETTINGS | times)
    separator._package.model_instance.model_run = echo = Echo()
    mixture = Audio(np.random.default_rng(0).uniform(-0.5, 0.5, (2, samples)).astype(np.float32), SAMPLE_RATE)
    stems = separator(mixture)
    starts = [*range(0, samples - segment, step), samples - segment]
    assert {length for _, length in echo.heard} == {segment}
    np.testing.assert_allclose([first for first, _ in echo.heard], mixture.samples[0, starts], atol=1e-6)
    assert len(echo.heard) == count
    np.testing.assert_allclose(stems.vocal.samples, resample(mixture, 48_000).samples, atol=2e-6)


def test_the_vocal_is_the_network_s(separator: RoformerSeparator) -> None:
    """Of one segment, which overlaps with nothing: what the network says of the mixture at half of full scale."""
    mixture = noise(11.0, SAMPLE_RATE)
    gain = np.float32(PEAK / np.abs(mixture.samples).max())
    found, again = (separator(mixture).vocal.samples for _ in range(2))
    np.testing.assert_array_equal(found, again)
    with torch.inference_mode():
        vocal = network()(torch.from_numpy(mixture.samples[None] * gain))[0].numpy() / gain
    expected = resample(Audio(vocal, SAMPLE_RATE), 48_000).samples
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(np.abs(expected).max()))


def test_a_louder_song_comes_out_as_much_louder(separator: RoformerSeparator) -> None:
    quiet, loud = (separator(noise(1.5, SAMPLE_RATE, gain=gain)).vocal.samples for gain in (0.01, 0.64))
    np.testing.assert_allclose(loud, 64 * quiet, rtol=1e-4, atol=1e-5)


def test_a_vocal_that_the_package_would_scale_is_refused(store: Path) -> None:
    weights = network().state_dict()
    loud = {name: tensor * 30 if "mask_estimators" in name else tensor for name, tensor in weights.items()}
    with pytest.raises(BadInput, match="more than twice as loud as the song"):
        built(store, loud)(noise(1.5, SAMPLE_RATE))


def test_a_checkpoint_that_would_run_something_is_not_loaded(store: Path) -> None:
    with pytest.raises(BackendUnavailable, match="no plain file of tensors"):
        built(store, {"weights": Path("x")})  # type: ignore[dict-item]


def test_a_checkpoint_of_another_shape_is_refused_in_a_sentence(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The package alone would log six errors and end the process."""
    weights = network().state_dict()
    for wrong, told in (
        (weights | {"final_norm.gamma": torch.ones(7)}, r"final_norm\.gamma: copying a param with shape"),
        ({name: tensor for name, tensor in weights.items() if name != "final_norm.gamma"}, "Missing key"),
        ({}, "Missing key"),
    ):
        with pytest.raises(BackendUnavailable, match=rf"{told}.*; backline assets verify roformer$") as refusal:
            built(store, wrong)
        assert "\n" not in str(refusal.value)
    assert not capfd.readouterr().err


@pytest.mark.parametrize(("number", "text"), [(1, "model: [1"), (1, "audio: 1"), (2, "{"), (2, "{}")])
def test_settings_cut_off_are_refused_in_a_sentence(store: Path, number: int, text: str) -> None:
    save_as_published(store, network().state_dict())
    (store / ASSETS["roformer"].files[number].path).write_text(text)
    install("roformer", store, check=False)
    with pytest.raises(BackendUnavailable, match=r"are no BS-RoFormer \(.*\); backline assets verify roformer$"):
        build(SeparationConfig(backend="roformer"))


def test_silence_stays_silence(separator: RoformerSeparator) -> None:
    stems = separator(Audio(np.zeros((2, SAMPLE_RATE), np.float32), SAMPLE_RATE))
    assert float(np.abs(stems.vocal.samples).max()) < 1e-6


def test_the_record_is_complete(separator: RoformerSeparator) -> None:
    assert (separator.name, separator.backend) == ("separation", "roformer")
    assert separator.licence == "not stated (non-commercial, accepted)"
    assert len(separator.weights_sha256) == 64
    assert stage.needs(SeparationConfig(backend="roformer")).assets == ("roformer",)


def test_its_temporary_folder_goes_with_it(store: Path) -> None:
    made = built(store, network().state_dict())
    folder = made._output
    assert folder.is_dir()
    del made
    gc.collect()
    assert not folder.exists()
