"""The documents of the HTTP API, as its OpenAPI document has them: for annotations."""

from ._generated.api import *  # noqa: F403
