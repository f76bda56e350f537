"""Checks inputs against a capability's JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import ConfigError, TaskError
from .json_value import JsonValue


class InputSchema:
    """A JSON Schema that was itself checked when the capability was declared."""

    def __init__(self, schema: Mapping[str, Any], capability: str) -> None:
        # Imported here because it costs tens of milliseconds at start, which
        # agents without a schema need not pay.
        from jsonschema import SchemaError
        from jsonschema.validators import validator_for
        from referencing import Registry

        validator = validator_for(schema)
        try:
            validator.check_schema(dict(schema))
        except SchemaError as error:
            raise ConfigError(
                f"the input_schema of capability {capability!r} is not a valid JSON Schema: "
                f"{error.message}"
            ) from error
        # An empty registry: a `$ref` to another document is an error instead of
        # a request to whatever host the schema names.
        self._validator = validator(schema, registry=Registry())

    def check(self, value: JsonValue) -> None:
        """Raises TaskError `invalid_input`, naming the place that does not fit."""
        from jsonschema.exceptions import best_match

        error = best_match(self._validator.iter_errors(value))
        if error is not None:
            place = error.json_path.replace("$", "input", 1)
            raise TaskError("invalid_input", f"{place}: {error.message}")
