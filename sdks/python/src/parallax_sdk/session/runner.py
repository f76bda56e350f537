"""Keeps an agent connected until it is asked to stop, and stops it gracefully."""

from __future__ import annotations

import asyncio
import logging
import platform
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._generated import agents_pb2 as agents
from .._version import __version__
from ..capability import Capability
from ..config import AgentConfig, trust_advice
from ..errors import ConfigError, RefusedError, SupersededError
from .backoff import Backoff
from .channel import Services
from .ending import Ending, Next
from .session import Callbacks, Session
from .task import Stop
from .worker import Worker

log = logging.getLogger("parallax_sdk")

#: Versions of the protocol that this SDK speaks.
PROTO_VERSIONS = (1,)
#: A session that lived this long was healthy: the next loss starts afresh. Seconds.
HEALTHY_S = 10.0
#: The last part of the grace, in which cancelled tasks still report: a tenth of
#: it, and a second at most.
REPORT_SHARE = 0.1
REPORT_MAX_S = 1.0
#: For handlers that are cancelled because there is nobody to report to. Seconds.
ABANDON_S = 1.0


class Runner:
    """One process's presence at the server. Runs once."""

    def __init__(
        self,
        config: AgentConfig,
        capabilities: Mapping[str, Capability],
        *,
        concurrency: int,
        labels: Mapping[str, str],
        on_ready: Sequence[Callable[[], None]],
    ) -> None:
        self._config = config
        self._capabilities = capabilities
        self._labels = labels
        self._on_ready = on_ready
        self._instance = str(uuid.uuid4())
        self._worker = Worker(config.agent_name, capabilities, concurrency)
        self._backoff = Backoff()
        self._stopping = asyncio.Event()
        self._stop_deadline = 0.0
        self._hurry = asyncio.Event()
        self._removed = asyncio.Event()

    def stop(self) -> None:
        """Drains. Asked a second time, it cancels what still runs at once."""
        if self._stopping.is_set():
            self._hurry.set()
            return
        loop = asyncio.get_running_loop()
        self._stop_deadline = loop.time() + self._config.stop_grace
        self._worker.close_to_new_tasks()
        self._stopping.set()
        self._send_drain()
        log.info("stopping: %d tasks are running", self._worker.inflight)

    async def run(self) -> None:
        """Returns after a drain; raises SupersededError or RefusedError."""
        # What is wrong now will not be right later; a token may still be renewed.
        self._config.read_roots()
        self._config.read_token()
        connected = asyncio.ensure_future(self._stay_connected())
        drained = asyncio.ensure_future(self._drain())
        try:
            await asyncio.wait({connected, drained}, return_when=asyncio.FIRST_COMPLETED)
            if connected.done():
                connected.result()
        finally:
            for part in (connected, drained):
                part.cancel()
            await asyncio.wait({connected, drained})
            await self._abandon()

    async def _stay_connected(self) -> None:
        while True:
            started = asyncio.get_running_loop().time()
            ending = await self._connect()
            if ending.next is Next.DRAINED:
                return
            if ending.next is Next.SUPERSEDED:
                raise SupersededError(
                    "a newer session of this instance is connected, so this one ended "
                    f"({ending.message}); start a process of its own for each instance"
                )
            if ending.next is Next.REFUSED:
                raise RefusedError(
                    f"the server at {self._config.endpoint.authority} refused agent "
                    f"{self._config.agent_name!r}: {ending.message}"
                )
            if ending.next is Next.REMOVED:
                self._on_removed(ending.message)
                # The stream is gone for good; tasks may still end properly.
                await self._worker.until_stopped()
                return
            if self._stopping.is_set() and self._worker.idle:
                return
            if asyncio.get_running_loop().time() - started >= HEALTHY_S:
                self._backoff.reset()
            await self._pause(ending)

    async def _connect(self) -> Ending:
        try:
            services = Services(
                self._config.endpoint, self._config.read_roots(), self._config.read_token()
            )
        except ConfigError as error:
            return Ending(Next.RECONNECT, str(error))
        try:
            callbacks = Callbacks(welcomed=self._on_welcome, removed=self._on_removed)
            session = asyncio.ensure_future(
                Session(services, self._hello(), self._worker, callbacks).run()
            )
            return await self._until_over(session)
        finally:
            await services.close()

    async def _until_over(self, session: asyncio.Future[Ending]) -> Ending:
        """A removed agent leaves as soon as it owes nothing."""
        finished = asyncio.ensure_future(self._owes_nothing())
        parts: set[asyncio.Future[Any]] = {session, finished}
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            if session.done():
                return session.result()
            return Ending(Next.DRAINED, "removed, and nothing is left to do")
        finally:
            for part in parts:
                part.cancel()
            await asyncio.wait(parts)

    async def _owes_nothing(self) -> None:
        # An ordinary drain ends with the server's word instead.
        await self._removed.wait()
        await self._worker.until_idle()
        await self._worker.link.flushed()

    async def _pause(self, ending: Ending) -> None:
        delay = self._backoff.next_delay(ending.delay)
        why = ending.message + trust_advice(ending.message, self._config.ca_file)
        log.warning("disconnected (%s); connecting again in %.1f s", why, delay)
        await asyncio.sleep(delay)

    async def _drain(self) -> None:
        """Returns when the grace is over."""
        await self._stopping.wait()
        if self._worker.idle and not self._worker.link.is_live:
            return
        grace = self._config.stop_grace
        reserve = min(REPORT_MAX_S, grace * REPORT_SHARE)
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait({hurry}, timeout=max(0.0, grace - reserve))
        finally:
            hurry.cancel()
        self._stop_deadline = asyncio.get_running_loop().time() + reserve
        if self._worker.inflight:
            log.warning("cancelling %d tasks: the grace is over", self._worker.inflight)
            self._worker.stop_all(Stop.EXIT)
        await asyncio.sleep(reserve)

    async def _abandon(self) -> None:
        """Cancels what still runs; a handler that ignores it ends with the process."""
        self._worker.stop_all(Stop.EXIT)
        stopped = asyncio.ensure_future(self._worker.until_stopped())
        # After a drain the handlers have had their time already.
        left = self._stop_deadline - asyncio.get_running_loop().time()
        patience = max(0.0, left) if self._stopping.is_set() else ABANDON_S
        await asyncio.wait({stopped}, timeout=min(ABANDON_S, patience))
        stopped.cancel()
        if self._worker.inflight:
            log.warning("%d tasks ignored their cancellation", self._worker.inflight)

    def _on_welcome(self, welcome: agents.Welcome) -> None:
        log.info("connected to %s as %s", self._config.endpoint.authority, self._config.agent_name)
        for callback in self._on_ready:
            callback()
        if self._stopping.is_set():
            self._send_drain()

    def _on_removed(self, message: str) -> None:
        log.info("the server removed this agent: %s", message)
        self._removed.set()
        if not self._stopping.is_set():
            self.stop()

    def _send_drain(self) -> None:
        left = max(0.0, self._stop_deadline - asyncio.get_running_loop().time())
        drain = agents.Drain(deadline_ms=round(left * 1000))
        self._worker.link.send(agents.AgentUp(drain=drain))

    def _hello(self) -> agents.Hello:
        return agents.Hello(
            agent_name=self._config.agent_name,
            instance_uuid=self._instance,
            sdk=agents.Sdk(
                name="parallax-sdk",
                version=__version__,
                language=f"python {platform.python_version()}",
            ),
            proto_versions=PROTO_VERSIONS,
            capabilities=[capability.to_wire() for capability in self._capabilities.values()],
            labels=dict(self._labels),
            credit=self._worker.hello_credit(),
            inventory=self._worker.inventory(),
        )
