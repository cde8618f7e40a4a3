"""Prefect's run form: fields in the order in which a person needs them, whatever database the server has."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel


def order(*first: str) -> Callable[[dict[str, Any], type[BaseModel]], None]:
    """For ``json_schema_extra``: the fields named here come first, then what is required, then the others.

    The page sorts by `position`; PostgreSQL's JSON, which keeps a deployment's schema, forgets the order of keys.
    """

    def place(schema: dict[str, Any], model: type[BaseModel]) -> None:
        fields = model.model_fields
        if unknown := set(first) - set(fields):
            raise ValueError(f"{model.__name__} has no fields {sorted(unknown)}")
        rest = sorted(set(fields) - set(first), key=list(fields).index)
        required = [name for name in rest if fields[name].is_required()]
        names = [*first, *required, *(name for name in rest if name not in required)]
        schema["properties"] = {name: schema["properties"][name] | {"position": names.index(name)} for name in names}

    return place
