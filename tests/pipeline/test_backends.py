"""Backends are loaded by name, and a missing one stops the run."""

from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch

from pipeline.backends import load_backend
from pipeline.errors import BackendUnavailable

TABLE = {"here": "collections:OrderedDict", "elsewhere": "no_such_package.stage:build", "hollow": "collections:Nothing"}


@dataclass(frozen=True)
class Choice:
    backend: str
    device: str = "cpu"

    def __iter__(self):  # what OrderedDict makes itself of
        return iter((("chosen", self.backend),))


def test_the_chosen_factory_gets_the_config() -> None:
    assert load_backend("toy", TABLE, Choice("here")) == OrderedDict(chosen="here")


def test_a_backend_that_can_not_be_imported_is_named() -> None:
    with pytest.raises(BackendUnavailable, match="toy backend 'elsewhere' can't be imported: No module named"):
        load_backend("toy", TABLE, Choice("elsewhere"))


def test_a_mistake_in_a_table_of_ours_is_no_missing_backend() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        load_backend("toy", TABLE, Choice("hollow"))


def test_a_gpu_that_is_not_there_is_said_before_anything_is_loaded() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    told = "toy backend 'elsewhere' is to run on a GPU, and torch sees none; .*, or set toy.device to cpu"
    with pytest.raises(BackendUnavailable, match=told):
        load_backend("toy", TABLE, Choice("elsewhere", "cuda"))
