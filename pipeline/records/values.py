"""A stage's result <-> the JSON text that the ledger keeps."""

import json
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


def dump(value: object) -> str:
    """Canonical JSON of a dataclass or `Config`: sorted keys, no spaces, one line; NaN and infinities survive."""
    kind: Any = type(value)
    plain = _adapter(kind).dump_python(value, mode="json")
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def load(kind: type[T], text: str) -> T:
    """Inverse of `dump`; pydantic's `ValidationError` (a `ValueError`) where the text is not a `kind`."""
    hashable: Any = kind
    value: T = _adapter(hashable).validate_json(text)
    return value


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
