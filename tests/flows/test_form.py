"""The order of fields in Prefect's run form."""

import pytest
from prefect.utilities.callables import parameter_schema
from pydantic import ConfigDict

from flows.build_dataset import BuildParameters, build_dataset
from flows.evaluate_model import EvaluateParameters
from flows.form import order
from flows.train_model import TrainParameters


def fields_of(schema: dict[str, dict[str, dict[str, int]]]) -> list[str]:
    """As the page sorts them, whatever order the database gave them."""
    return sorted(sorted(schema["properties"]), key=lambda name: schema["properties"][name]["position"])


def test_songs_and_root_are_asked_for_first() -> None:
    form = parameter_schema(build_dataset.fn).definitions["BuildParameters"]
    assert fields_of(form)[:4] == ["library", "root", "recipe", "limit"]
    assert set(fields_of(form)) == set(BuildParameters.model_fields)


@pytest.mark.parametrize("parameters", [TrainParameters, EvaluateParameters])
def test_what_must_be_filled_in_comes_before_what_may(parameters: type[TrainParameters]) -> None:
    form = parameters.model_json_schema()
    required = [name in form["required"] for name in fields_of(form)]
    assert required == sorted(required, reverse=True)
    assert any(required)


def test_a_field_that_is_gone_is_told() -> None:
    class Renamed(BuildParameters):
        model_config = ConfigDict(json_schema_extra=order("songs"))

    with pytest.raises(ValueError, match="Renamed has no fields \\['songs'\\]"):
        Renamed.model_json_schema()
