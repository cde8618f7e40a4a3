"""A stage's result <-> the JSON text that the ledger keeps."""

import json
from typing import TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


def dump(value: object) -> str:
    """Canonical JSON of a dataclass or `Config`: sorted keys, no spaces, one line; NaN and infinities survive."""
    plain = TypeAdapter(type(value)).dump_python(value, mode="json")
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def load(kind: type[T], text: str) -> T:
    """Inverse of `dump`; pydantic's `ValidationError` (a `ValueError`) where the text is not a `kind`."""
    return TypeAdapter(kind).validate_json(text)
