"""What an agent can do: a name, a handler, and how it may be called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ._generated import agents_pb2 as agents
from .context import Context, SyncContext
from .errors import ConfigError
from .json_value import encode
from .schema import InputSchema

#: An `async def` handler; it returns a JSON value, a dataclass, or a `Result`.
AsyncHandler: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
#: A plain function; it runs in a thread of its own.
SyncHandler: TypeAlias = Callable[[Any, SyncContext], Any]
Handler: TypeAlias = AsyncHandler | SyncHandler


@dataclass(frozen=True)
class Capability:
    """One thing that an agent can do."""

    name: str
    handler: Handler
    #: Whether running a task twice does no harm. Only such tasks are ever retried.
    idempotent: bool = False
    #: Tasks of this capability that run at once; 0 means no limit of its own.
    max_concurrency: int = 0
    #: A JSON Schema; inputs that do not fit fail with `invalid_input`.
    input_schema: Mapping[str, Any] | None = None
    description: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or self.name != self.name.strip():
            raise ConfigError(f"{self.name!r} is no name for a capability")
        if self.max_concurrency < 0:
            raise ConfigError(
                f"max_concurrency of capability {self.name!r} is {self.max_concurrency}: "
                "give 0 for no limit, or the number of tasks that may run at once"
            )
        if not callable(self.handler):
            raise ConfigError(f"the handler of capability {self.name!r} cannot be called")
        # Raises now what would otherwise fail the first task.
        _ = self.schema

    @functools.cached_property
    def schema(self) -> InputSchema | None:
        if self.input_schema is None:
            return None
        return InputSchema(self.input_schema, self.name)

    @functools.cached_property
    def is_async(self) -> bool:
        """Whether the handler is a coroutine function, or an object called like one."""
        call = getattr(self.handler, "__call__", None)  # noqa: B004 - its kind is the question
        return inspect.iscoroutinefunction(self.handler) or inspect.iscoroutinefunction(call)

    def to_wire(self) -> agents.Capability:
        schema = b""
        if self.input_schema is not None:
            schema = encode(dict(self.input_schema), f"the input_schema of {self.name!r}")
        return agents.Capability(
            name=self.name,
            version=self.version,
            max_concurrency=self.max_concurrency,
            input_schema_json=schema,
            idempotent=self.idempotent,
            description=self.description,
        )
