"""What backends declare: names that the table has, figures that add up, batch sizes by length."""

from pathlib import Path

import pytest

from pipeline.annotation.stage import AnnotationConfig
from pipeline.annotation.stage import needs as annotation_needs
from pipeline.assets.known import ASSETS
from pipeline.assets.needs import SHIPPED, Extra, Needs, Program, joined
from pipeline.assets.pull import verify
from pipeline.assets.store import fault_of
from pipeline.assets.table import Package
from pipeline.separation.stage import SeparationConfig
from pipeline.separation.stage import needs as separation_needs


def test_batch_sizes_follow_the_length_of_a_piece() -> None:
    needs = Needs(batch_seconds=120.0)
    assert [needs.batch_size(seconds) for seconds in (0.5, 30.0, 60.0, 61.0, 600.0)] == [64, 4, 2, 1, 1]
    assert SHIPPED.batch_size(1.0) == 1
    with pytest.raises(ValueError, match="0 s has no batch size"):
        needs.batch_size(0)


def test_several_models_in_one_worker_add_up() -> None:
    extra, tool = Extra("x", "pip install x", "MIT"), Program("y", "apt-get install y")
    one = Needs(("a", "b"), (extra,), (tool,), gpu_memory_gb=2, cpus=2)
    both = joined([one, Needs(("b", "c"), (extra,), (tool,), True, 3)])
    assert both == Needs(("a", "b", "c"), (extra,), (tool,), True, 5, cpus=2)
    assert joined([]) == SHIPPED


def test_what_backends_name_is_in_the_table() -> None:
    named = [
        annotation_needs(AnnotationConfig.model_validate({"backend": "qwen2_audio", "lyrics": {"backend": lyrics}}))
        for lyrics in ("none", "qwen3_asr", "whisper")
    ]
    named += [
        separation_needs(SeparationConfig.model_validate({"backend": backend, "demucs_model": model}))
        for backend in ("spleeter", "demucs", "bsrnn", "roformer")
        for model in ("htdemucs", "htdemucs_ft")
    ]
    assert all(set(needs.assets) <= set(ASSETS) for needs in named)
    assert separation_needs(SeparationConfig(backend="demucs", demucs_repo="here")).assets == ()
    twice = annotation_needs(
        AnnotationConfig.model_validate({"backend": "qwen2_audio", "caption": {"precision": "float32"}})
    )
    assert twice.gpu_memory_gb == 2 * named[0].gpu_memory_gb


def test_every_asset_says_where_it_is_from_and_what_it_allows() -> None:
    for one in ASSETS.values():
        assert one.files
        assert one.licence
        assert one.about or isinstance(one.origin, Package), one.name
        assert one.commercial == (not one.licence.startswith("CC-BY-NC") and one.licence != "not stated"), one.name
        paths = [file.path for file in one.files]
        assert len(set(paths)) == len(paths), one.name
        assert not any(Path(path).is_absolute() or ".." in path for path in paths)


@pytest.mark.parametrize("name", [name for name, one in ASSETS.items() if isinstance(one.origin, Package)])
def test_what_is_installed_is_what_the_table_says(name: str) -> None:
    assert fault_of(ASSETS[name]) == ""
    assert verify(name) == ""
