"""The live stream, if there is one, as tasks see it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from .._generated import agents_pb2 as agents
from .channel import Services
from .keys import TaskKey
from .outbox import Outbox

#: What the protocol says where a server leaves a limit at 0.
DEFAULT_FRAME_BYTES = 1024 * 1024
DEFAULT_INLINE_BYTES = 256 * 1024
DEFAULT_BLOB_BYTES = 64 * 1024 * 1024
DEFAULT_WINDOW_BYTES = 64 * 1024


@dataclass(frozen=True)
class Limits:
    """The server's limits, all in bytes but `max_credit`, where 0 means none."""

    max_frame: int = DEFAULT_FRAME_BYTES
    max_inline: int = DEFAULT_INLINE_BYTES
    max_blob: int = DEFAULT_BLOB_BYTES
    partial_window: int = DEFAULT_WINDOW_BYTES
    max_credit: int = 0

    @classmethod
    def of(cls, wire: agents.Limits) -> Limits:
        return cls(
            max_frame=wire.max_frame_bytes or DEFAULT_FRAME_BYTES,
            max_inline=wire.max_inline_bytes or DEFAULT_INLINE_BYTES,
            max_blob=wire.max_blob_bytes or DEFAULT_BLOB_BYTES,
            partial_window=wire.partial_window_bytes or DEFAULT_WINDOW_BYTES,
            max_credit=wire.max_credit,
        )


@dataclass(frozen=True)
class Live:
    """A stream that was welcomed."""

    outbox: Outbox
    services: Services
    limits: Limits


class Link:
    """Frames sent while no stream is live are dropped: the next Hello restates
    everything that matters, and results are kept until they are acknowledged."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._up = asyncio.Event()
        self._limits = Limits()

    @property
    def is_live(self) -> bool:
        return self._live is not None

    @property
    def limits(self) -> Limits:
        """Those of the newest stream."""
        return self._limits

    def attach(self, live: Live) -> None:
        self._live = live
        self._limits = live.limits
        self._up.set()

    def detach(self) -> None:
        self._live = None
        self._up.clear()

    def send(self, frame: agents.AgentUp) -> None:
        if self._live is not None:
            self._live.outbox.put(frame)

    def send_progress(self, key: TaskKey, frame: agents.AgentUp) -> None:
        if self._live is not None:
            self._live.outbox.put_progress(key, frame)

    async def flushed(self) -> None:
        """Waits until every frame that was sent has been written."""
        if self._live is not None:
            await self._live.outbox.flushed()

    async def live(self) -> Live:
        """Waits for a live stream."""
        while self._live is None:
            await self._up.wait()
        return self._live

    async def gone(self, services: Services) -> None:
        """Does nothing while `services` are still the live ones, otherwise waits
        for their successor."""
        live = await self.live()
        if live.services is services:
            # The stream has not noticed yet what a call on it already met.
            await asyncio.sleep(RETRY_PAUSE_S)


#: Between two attempts at a blob on the same stream.
RETRY_PAUSE_S = 0.2
