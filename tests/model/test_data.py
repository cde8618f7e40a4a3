"""Shards to batches: what a row holds, and that every draw depends on the seed and the sample number alone."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_dataset import song, write_dataset

from model.config import PAD, VOCAL_PAD, ModelConfig, ObjectiveConfig, StageConfig
from model.data import Batch, Drawing, MicroBatches, RowSource, Slicing, reference_samples, song_index
from model.schedule import mask_ratios
from model.shards import ShardSamples, load_training_split, weights_behind
from pipeline.errors import BadInput
from pipeline.records.schema import Sample


def songs(count: int = 5, tokens: int = 1000, **options: object) -> list[Sample]:
    return [song(f"s{i}", tokens, seed=i, **options) for i in range(count)]  # type: ignore[arg-type]


def drawing(crop: int = 64, dropout: float = 0.5, seed: int = 7) -> Drawing:
    return Drawing(seed=seed, stage=0, crop_tokens=crop, crop_mode="slice", condition_dropout=dropout)


def micro_batches(samples: Sequence[Sample], rows: int, first: int = 0, rank: int = 0, of: int = 1) -> MicroBatches:
    return MicroBatches(RowSource(samples, drawing()), Slicing(first, 0, rows, rank, of, ObjectiveConfig()))


def rows_of(batches: Sequence[Batch]) -> list[tuple[object, ...]]:
    """Every row's every value, comparable."""
    return [
        (
            batch.keys[i],
            *(getattr(batch, f.name)[i].tolist() for f in fields(batch) if f.name[-2:] in ("BT", "BP", "_B")),
        )
        for batch in batches
        for i in range(len(batch.keys))
    ]


def test_rows_are_slices_of_one_song_and_one_variant() -> None:
    samples = songs(3, variants=2)
    source = RowSource(samples, drawing())
    for number in range(30):
        row = source.row(number)
        sample = next(s for s in samples if s.info.key == row.key)
        windows = np.lib.stride_tricks.sliding_window_view(sample.vocal[0], 64)
        (start,) = np.flatnonzero((windows == row.vocal_T).all(axis=1))
        codes = sample.accompaniment[:, 0, start : start + 64]
        assert (codes == row.accompaniment_T).all(axis=1)[1:].any(), "an augmented variant, from the vocal's place"


def test_the_reference_vector_is_of_a_window_outside_the_crop_and_of_its_own_variant() -> None:
    samples = songs(2, variants=3)
    source = RowSource(samples, drawing(crop=300, dropout=0.0))
    variants = set()
    for number in range(60):
        row = source.row(number)
        sample = next(s for s in samples if s.info.key == row.key)
        (played,) = [v for v in range(4) if _find(sample.accompaniment[v, 0], row.accompaniment_T) is not None]
        begin = _find(sample.accompaniment[played, 0], row.accompaniment_T)
        assert begin is not None
        heard, window = np.argwhere((sample.reference == row.prefix_PW[1]).all(axis=2))[0]
        start, end = reference_samples(sample.info)[window]
        assert end <= begin * 1920 or start >= (begin + 300) * 1920
        variants.add((played, int(heard)))
    assert {a for a, _ in variants} == {b for _, b in variants} == {1, 2, 3}
    assert any(a != b for a, b in variants)


def _find(codes: np.ndarray, crop: np.ndarray) -> int | None:
    found = np.flatnonzero((np.lib.stride_tricks.sliding_window_view(codes, len(crop)) == crop).all(axis=1))
    return int(found[0]) if found.size else None


def test_two_processes_and_accumulation_draw_what_one_large_batch_draws() -> None:
    samples = songs()
    large = rows_of([micro_batches(samples, rows=8)[0]])
    shared = [micro_batches(samples, rows=2, rank=rank, of=2)[i] for i in range(2) for rank in range(2)]
    assert rows_of(shared) == large


def test_a_restart_draws_what_the_undisturbed_run_draws() -> None:
    samples = songs()
    assert rows_of([micro_batches(samples, rows=2, first=6)[0]]) == rows_of([micro_batches(samples, rows=2)[3]])


@pytest.mark.enable_socket  # workers hand tensors over through unix sockets
def test_worker_processes_change_nothing() -> None:
    data = micro_batches(songs(), rows=2)
    loaded = torch.utils.data.DataLoader(
        data, batch_size=None, sampler=range(4), num_workers=2, multiprocessing_context="spawn"
    )
    assert rows_of(list(loaded)) == rows_of([data[i] for i in range(4)])


def test_every_epoch_is_a_permutation_and_epochs_differ() -> None:
    epochs = [[song_index(3, 0, epoch * 7 + i, 7) for i in range(7)] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_masks_follow_the_global_sobol_stream() -> None:
    data = micro_batches(songs(), rows=64)
    batch = data[1]
    assert torch.equal(batch.ratio_B, mask_ratios(7, 64, 64).clamp(min=1 / 64))
    share = batch.mask_BT.double().mean(dim=1)
    assert float((share - batch.ratio_B).mean().abs()) < 4 * 0.5 / 64  # 4 standard errors of 64 x 64 Bernoulli draws


def test_dropout_is_independent_for_text_and_reference() -> None:
    source = RowSource(songs(), drawing(dropout=0.3))
    dropped = np.stack([source.row(n).dropped_P for n in range(2000)])
    assert np.allclose(dropped.mean(axis=0), 0.3, atol=4 * (0.21 / 2000) ** 0.5)
    assert abs(dropped.all(axis=1).mean() - 0.09) < 4 * (0.082 / 2000) ** 0.5


def test_songs_shorter_than_the_crop_are_padded_and_never_masked_there() -> None:
    batch = micro_batches(songs(tokens=40), rows=16)[0]
    assert batch.padded
    assert bool((batch.vocal_BT[:, 40:] == VOCAL_PAD).all() and (batch.accompaniment_BT[:, 40:] == PAD).all())
    assert not bool(batch.mask_BT[:, 40:].any())
    assert not bool(batch.valid_BT[:, 40:].any())
    assert float(batch.ratio_B.min()) >= 1 / 40
    assert batch.reference_impossible == 16
    assert bool(batch.dropped_BP[:, 1].all())


def test_a_dataset_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    first, second = songs(2), songs(3, tokens=300)
    write_dataset(tmp_path, {"train-stage1": [first, second], "test": [songs(1)]})
    read = ShardSamples(tmp_path, "train-stage1", cache_bytes=1)
    assert [s.info for s in read] == [s.info for s in (*first, *second)]
    assert all(np.array_equal(a.vocal, b.vocal) for a, b in zip(read, (*first, *second), strict=True))
    assert weights_behind(read[0]) == ("c0dec", "c04d")


def test_shards_that_the_manifest_does_not_list_are_not_read(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"train-stage1": [songs(1), songs(1)]})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["shards"] = manifest["shards"][:1]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert len(ShardSamples(tmp_path, "train-stage1")) == 1


def test_a_shard_cut_at_a_member_boundary_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"train-stage1": [songs(2)]})
    whole = write_dataset(tmp_path / "one", {"train-stage1": [songs(1)]}) / "train-stage1-000000.tar"
    (tmp_path / "train-stage1-000000.tar").write_bytes(whole.read_bytes())
    with pytest.raises(BadInput, match="run backline verify") as caught:
        ShardSamples(tmp_path, "train-stage1")
    assert caught.value.reason == "truncated"


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"train-stage1": [songs(1)]})
    (tmp_path / "train-stage1-000000.tar").unlink()
    with pytest.raises(BadInput, match="missing"):
        ShardSamples(tmp_path, "train-stage1")


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="build the dataset first"):
        ShardSamples(tmp_path, "val")


def test_an_empty_split_names_those_that_are_not(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"train-stage1": [songs(1)]})
    stage = StageConfig(name="two", split="train-stage2", crop_tokens=64, steps=1)
    with pytest.raises(BadInput, match=r"\['train-stage1'\]") as caught:
        load_training_split(tmp_path, stage, ModelConfig(prefix_width=8))
    assert caught.value.reason == "empty_split"


def test_prefix_vectors_of_another_width_are_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"train-stage1": [songs(1)]})
    stage = StageConfig(name="one", split="train-stage1", crop_tokens=64, steps=1)
    with pytest.raises(BadInput, match="8 wide") as caught:
        load_training_split(tmp_path, stage, ModelConfig(prefix_width=384))
    assert caught.value.reason == "prefix_width"
