"""Values as they travel: UTF-8 JSON.

Integers keep every digit in both directions, whatever their size; peers written
in languages whose numbers are 64-bit floats see integers beyond 2**53 rounded,
so send such numbers as strings. NaN and infinities are not JSON: refused.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from .errors import TaskError

#: Any value that `json` reads or writes. It stays `Any`, because a handler's
#: declared input shape is the author's business.
JsonValue = Any


def encode(value: JsonValue, what: str = "the result") -> bytes:
    """The value as UTF-8 JSON. Dataclasses are written as objects.

    Raises TaskError `invalid_result` when the value is not JSON.
    """
    try:
        text = json.dumps(
            value,
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
            default=_dataclass_fields,
        )
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise TaskError("invalid_result", f"{what} cannot be written as JSON: {error}") from error


def decode(data: bytes, what: str = "the input") -> JsonValue:
    """The value of UTF-8 JSON; empty bytes are `None`.

    Raises TaskError `invalid_input` when the bytes are not JSON.
    """
    if not data:
        return None
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        raise TaskError("invalid_input", f"{what} is not valid JSON: {error}") from error


def _no_json(word: str) -> JsonValue:
    """Python's parser reads NaN and infinities, which JSON does not have."""
    raise ValueError(f"{word} is not JSON")


def _dataclass_fields(value: object) -> JsonValue:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} is not a JSON type")
