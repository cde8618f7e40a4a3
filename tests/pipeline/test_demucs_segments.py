"""Demucs: its published layout at true size; segments of several songs in a batch, as its own API makes each alone."""

import json
import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from demucs.apply import BagOfModels, apply_model
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs
from test_separation import music
from torch import Tensor

from pipeline.assets.store import asset
from pipeline.batching import remarks
from pipeline.separation import demucs_segments
from pipeline.separation.threads import one_thread

# The names and shapes that demucs.cpp (f1206e9) asks of the published 955717e8, which it reads without this package;
# its README counts 533 tensors and 80.08 MiB of half precision in that file.
GOLDEN = Path(__file__).parents[1] / "golden" / "published" / "htdemucs.json"
PUBLISHED = {"bottom_channels": 512, "dconv_mode": 3, "segment": Fraction(39, 5)}  # else the class's defaults
SOURCES = ["drums", "bass", "other", "vocals"]
HYBRID = {"channels": 4, "segment": 1}
TRANSFORMER = {
    "channels": 8, "bottom_channels": 16, "t_layers": 1, "t_heads": 2, "t_hidden_scale": 1.0, "dconv_depth": 1,
    "segment": 1,
}  # fmt: skip


def bag(*networks: HDemucs | HTDemucs, weights: list[list[float]] | None = None) -> BagOfModels:
    return BagOfModels([network.eval() for network in networks], weights)


def bags() -> dict[str, BagOfModels]:
    torch.manual_seed(0)
    made = [HTDemucs(SOURCES, **TRANSFORMER) for _ in range(3)]
    return {
        "HTDemucs": bag(made[0]),
        "HDemucs": bag(HDemucs(SOURCES, **HYBRID)),
        "some count more": bag(*made, weights=[[1.0, 0, 0, 3.0], [0, 1.0, 0, 0.5], [1.0, 1.0, 1.0, 0.0]]),
    }


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = HTDemucs(SOURCES, **PUBLISHED)
    ours = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    theirs = json.loads(GOLDEN.read_text())
    assert ours == theirs
    numbers = sum(math.prod(shape) for shape in theirs.values())
    assert (len(theirs), round(numbers * 2 / 2**20, 2)) == (533, 80.08)
    for name, members in (("demucs-htdemucs", 1), ("demucs-htdemucs_ft", 4)):
        assert asset(name).gigabytes == pytest.approx(members * numbers * 2 / 1e9, rel=0.01)
    (member,) = demucs_segments.members(bag(network))
    assert member.segment == 343_980  # samples, 7.8 s


UNEQUAL = (1.7, 0.3, 2.6, 1.7, 1.0)  # s


@pytest.mark.parametrize("name", bags())
def test_demucs_segments_are_joined_as_its_api_does(name: str) -> None:
    model = bags()[name]
    songs = [torch.from_numpy(music(seconds, 44_100).samples) for seconds in UNEQUAL]
    with one_thread(), torch.inference_mode():
        mine = demucs_segments.vocals(demucs_segments.members(model), songs, 0.25, at_once=1, device="cpu")
        for song, vocal in zip(songs, mine, strict=True):
            scale = song.mean(0).std() + 1e-8
            out = apply_model(model, ((song - song.mean(0).mean()) / scale)[None], shifts=0, overlap=0.25)
            theirs = (out * scale + song.mean(0).mean())[0, 3]
            assert theirs.abs().max() > 0
            assert torch.equal(vocal, theirs)


@pytest.mark.parametrize("name", ["HTDemucs", "HDemucs"])
def test_songs_of_unequal_lengths_share_demucs_batches_and_sound_as_alone(name: str) -> None:
    model, sizes = bags()[name], list[int]()
    model.models[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    parts = demucs_segments.members(model)
    songs = [torch.from_numpy(music(seconds, 44_100).samples) for seconds in UNEQUAL]
    songs.insert(1, torch.zeros(2, 30_000))  # silence leaves its mates alone
    with one_thread(), torch.inference_mode():
        together = demucs_segments.vocals(parts, songs, 0.25, at_once=4, device="cpu")
        count = len(sizes)
        alone = [demucs_segments.vocals(parts, [song], 0.25, at_once=4, device="cpu")[0] for song in songs]
    assert count < len(sizes) - count
    assert set(sizes) == ({4} if name == "HTDemucs" else {4, 1})  # HDemucs hears a song's end as long as it is
    for mine, other in zip(together, alone, strict=True):
        assert torch.equal(mine, other)


def test_a_demucs_that_runs_out_of_memory_hears_fewer_segments() -> None:
    model = bags()["HTDemucs"]

    def small(module: object, args: tuple[Tensor, ...]) -> None:
        if len(args[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.models[0].register_forward_pre_hook(small)
    song = torch.from_numpy(music(1.7, 44_100).samples)
    with remarks() as made, torch.inference_mode():
        demucs_segments.vocals(demucs_segments.members(model), [song], 0.25, at_once=4, device="cpu")
    assert made == ["Demucs: batch 4 -> 2, out of GPU memory"]
