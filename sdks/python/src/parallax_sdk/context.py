"""What a handler learns about its task, and what it may say while it works."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol, TypeVar

from .result import ppm
from .session.inputs import InputMessage

T = TypeVar("T")


@dataclass(frozen=True)
class TaskInfo:
    """The task as it was handed to this agent. Empty text means: not given."""

    task_id: str
    #: Counts from 1; stays the same across reconnects.
    attempt: int
    capability: str
    agent_name: str
    #: Stable across attempts: use it to do an outside effect only once.
    idempotency_key: str = ""
    #: The execution and step that asked for the task.
    run: str = ""
    step: str = ""
    #: Unique per delivery.
    message_id: str = ""
    #: Groups the tasks of one conversation.
    context_id: str = ""
    session_id: str = ""
    #: The name of the credential that asked.
    caller: str = ""
    #: W3C Trace Context and Baggage, verbatim.
    traceparent: str = ""
    tracestate: str = ""
    baggage: str = ""

    @property
    def trace(self) -> dict[str, str]:
        """What came of the trace: a carrier of OpenTelemetry's propagators."""
        names = ("traceparent", "tracestate", "baggage")
        return {name: text for name in names if (text := getattr(self, name))}


class TaskPort(Protocol):
    """The running task, as a context sees it. All calls are made on the event loop."""

    @property
    def inputs(self) -> AsyncIterator[InputMessage]: ...

    def progress(self, ppm: int | None, message: str) -> None: ...

    async def partial(self, chunk: bytes) -> None: ...


@dataclass(frozen=True)
class _Shared:
    """What the contexts of coroutines and of plain functions have in common."""

    info: TaskInfo
    port: TaskPort
    #: `time.monotonic()` at the deadline; None when there is none.
    due: float | None
    logger: logging.LoggerAdapter[logging.Logger]
    stop_asked: threading.Event = field(default_factory=threading.Event)

    @property
    def task_id(self) -> str:
        return self.info.task_id

    @property
    def attempt(self) -> int:
        return self.info.attempt

    @property
    def idempotency_key(self) -> str:
        """Stable across attempts: use it to do an outside effect only once."""
        return self.info.idempotency_key

    @property
    def traceparent(self) -> str:
        """W3C Trace Context, verbatim; empty when the caller sent none."""
        return self.info.traceparent

    @property
    def trace(self) -> dict[str, str]:
        """Of W3C Trace Context and Baggage what the caller sent: pass it on with
        `client.invoke(…, trace=ctx.trace)`. Where OpenTelemetry is installed, spans
        of a handler are children of it by themselves."""
        return self.info.trace

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked this task to stop, or its deadline passed."""
        return self.stop_asked.is_set()

    @property
    def time_left(self) -> float | None:
        """Seconds until the deadline, never below 0; None when there is none.

        Counted from the time left that the server sent, so clocks may differ.
        """
        return None if self.due is None else max(0.0, self.due - time.monotonic())

    @property
    def deadline(self) -> datetime | None:
        """The deadline by this machine's clock; None when there is none."""
        left = self.time_left
        return None if left is None else datetime.now(timezone.utc) + timedelta(seconds=left)


class Context(_Shared):
    """The context of an `async def` handler."""

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """Tells callers how far the task is. `fraction` is between 0 and 1.

        Never waits: while the connection is busy the newest progress replaces
        the older.
        """
        self.port.progress(_ppm(fraction), message)

    async def partial(self, chunk: str | bytes) -> None:
        """Sends a piece of the result early; waits while the server's window is full."""
        await self.port.partial(_bytes(chunk))

    @property
    def inputs(self) -> AsyncIterator[InputMessage]:
        """Messages to this task, in order: `message = await anext(ctx.inputs)`."""
        return self.port.inputs


@dataclass(frozen=True)
class SyncContext(_Shared):
    """The context of a plain function, which runs in a thread of its own.

    Python cannot stop a thread. A function that may run for long should call
    `raise_if_cancelled()` now and then; one that does not is reported as
    cancelled, or late, only when it has really ended.
    """

    loop: asyncio.AbstractEventLoop = field(kw_only=True)
    _waiting: set[concurrent.futures.Future[Any]] = field(default_factory=set)

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """As `Context.progress`."""
        self.loop.call_soon_threadsafe(self.port.progress, _ppm(fraction), message)

    def partial(self, chunk: str | bytes) -> None:
        """As `Context.partial`, blocking this thread."""
        self._wait(lambda: self.port.partial(_bytes(chunk)))

    def next_input(self) -> InputMessage:
        """The next message to this task, blocking this thread."""
        return self._wait(self._next_input)

    def raise_if_cancelled(self) -> None:
        """Raises `asyncio.CancelledError` once the task was asked to stop."""
        if self.cancelled:
            raise asyncio.CancelledError

    def ask_to_stop(self) -> None:
        """Called on the event loop: wakes a thread that waits in this context."""
        self.stop_asked.set()
        for future in tuple(self._waiting):
            future.cancel()

    async def _next_input(self) -> InputMessage:
        return await self.port.inputs.__anext__()

    def _wait(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        future = asyncio.run_coroutine_threadsafe(work(), self.loop)
        self._waiting.add(future)
        # After the future is listed: a stop either sees it there or is seen here.
        if self.cancelled:
            future.cancel()
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise asyncio.CancelledError from error
        finally:
            self._waiting.discard(future)


def _ppm(fraction: float | None) -> int | None:
    return None if fraction is None else ppm(fraction, "progress")


def _bytes(chunk: str | bytes) -> bytes:
    return chunk.encode("utf-8") if isinstance(chunk, str) else bytes(chunk)
