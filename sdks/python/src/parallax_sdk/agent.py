"""The agent: its capabilities, and its life from connecting to drained."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .capability import Capability, Handler
from .config import agent_config
from .errors import ConfigError
from .session.runner import Runner

H = TypeVar("H", bound=Callable[..., Any])

#: Tasks at once, where an agent says nothing: plenty for work that waits for
#: other services, and few enough that other replicas get their share.
DEFAULT_CONCURRENCY = 16


class Agent:
    """A named set of capabilities that serves a Parallax server.

        agent = Agent("greeter")

        @agent.capability("greet", idempotent=True)
        async def greet(value: dict[str, str], ctx: Context) -> dict[str, str]:
            return {"text": f"Hello, {value['name']}"}

        agent.run()

    Arguments win over the environment: `PARALLAX_AGENT_NAME`, `PARALLAX_URL`,
    `PARALLAX_TOKEN_FILE`, `PARALLAX_CA_FILE` and `PARALLAX_STOP_GRACE_MS`.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        labels: Mapping[str, str] | None = None,
        url: str | None = None,
        token_file: str | Path | None = None,
        ca_file: str | Path | None = None,
        stop_grace: float | None = None,
    ) -> None:
        """`concurrency` is the number of tasks at once; `stop_grace` is in seconds."""
        if concurrency < 1:
            raise ConfigError(f"concurrency is {concurrency}: an agent needs at least 1")
        self._name = name
        self._concurrency = concurrency
        self._labels = dict(labels or {})
        self._url = url
        self._token_file = token_file
        self._ca_file = ca_file
        self._stop_grace = stop_grace
        self._capabilities: dict[str, Capability] = {}
        self._on_ready: list[Callable[[], None]] = []
        self._runner: Runner | None = None

    def capability(
        self,
        name: str,
        *,
        idempotent: bool = False,
        max_concurrency: int = 0,
        input_schema: Mapping[str, Any] | None = None,
        description: str | None = None,
        version: str = "",
    ) -> Callable[[H], H]:
        """Declares a handler: `async def`, or a plain function run in a thread.

        The description defaults to the first line of the handler's docstring.
        See `Capability` for the other arguments.
        """

        def declare(handler: H) -> H:
            self.add(
                Capability(
                    name=name,
                    handler=handler,
                    idempotent=idempotent,
                    max_concurrency=max_concurrency,
                    input_schema=input_schema,
                    description=_first_line(handler) if description is None else description,
                    version=version,
                )
            )
            return handler

        return declare

    def add(self, capability: Capability) -> None:
        """Declares a capability without a decorator."""
        if capability.name in self._capabilities:
            raise ConfigError(f"capability {capability.name!r} is declared twice")
        self._capabilities[capability.name] = capability

    def on_ready(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back after each Welcome, that is at the start and after a reconnect."""
        self._on_ready.append(callback)
        return callback

    async def serve(self) -> None:
        """Connects and serves until `stop()`, a drain by the server, or a cancellation.

        Reconnects as long as that can help. Raises ConfigError, RefusedError when
        the server will not have this agent, and SupersededError.
        """
        if self._runner is not None:
            raise RuntimeError("this agent is already serving")
        config = agent_config(
            name=self._name,
            url=self._url,
            token_file=self._token_file,
            ca_file=self._ca_file,
            stop_grace=self._stop_grace,
        )
        self._runner = Runner(
            config,
            dict(self._capabilities),
            concurrency=self._concurrency,
            labels=self._labels,
            on_ready=tuple(self._on_ready),
        )
        try:
            await self._runner.run()
        finally:
            self._runner = None

    def stop(self) -> None:
        """Drains: no new tasks, running ones may finish within the grace.

        To be called on the event loop. A second call cancels what still runs.
        """
        if self._runner is not None:
            self._runner.stop()

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT, drains, and returns.

        Logs to stderr unless logging is set up already. Raises as `serve` does.
        """
        if not logging.getLogger().handlers:
            logging.basicConfig(
                level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
            )
        loop = asyncio.new_event_loop()
        try:
            asyncio.set_event_loop(loop)
            serving = loop.create_task(self.serve())
            with _signals(loop, self.stop):
                loop.run_until_complete(serving)
        finally:
            _close(loop)


#: For tasks that remain after serving, for example a handler's own, in seconds.
#: `asyncio.run` would wait for them without an end.
CLOSE_TIMEOUT_S = 0.2


def _close(loop: asyncio.AbstractEventLoop) -> None:
    try:
        remaining = asyncio.all_tasks(loop)
        for task in remaining:
            task.cancel()
        if remaining:
            loop.run_until_complete(asyncio.wait(remaining, timeout=CLOSE_TIMEOUT_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may handle signals; elsewhere stop() is the way.
        yield
        return
    handled = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.getsignal(number) for number in handled}
    for number in handled:
        # Not loop.add_signal_handler, which Windows lacks.
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _first_line(handler: Handler) -> str:
    return (handler.__doc__ or "").strip().split("\n", 1)[0].strip()
