"""The partial results of one task: window, order, and what a reconnect needs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from .._generated import agents_pb2 as agents
from .._generated import common_pb2 as common

#: Chunks above this are split, so that a frame never blocks the stream for long.
MAX_CHUNK_BYTES = 64 * 1024


class PartialStream:
    """Sends chunks within the server's byte window.

    Chunks stay buffered up to one window: after a reconnect the server says
    which it has, and the others are sent again. While the stream is down a
    handler may go on until the window is used up.
    """

    def __init__(
        self, ref: common.TaskRef, window: int, send: Callable[[agents.AgentUp], None]
    ) -> None:
        self._ref = ref
        self._send = send
        self._window = window
        self._retain = window
        self._buffer: deque[tuple[int, bytes]] = deque()
        self._buffered = 0
        self._last_seq = 0
        self._sent_seq = 0
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def last_seq(self) -> int:
        """The highest number that was sent; 0 when none was."""
        return self._last_seq

    async def write(self, data: bytes) -> None:
        """Returns once the window had room for all of it."""
        async with self._turn:
            for chunk in self._split(data):
                while not self._has_room(len(chunk)):
                    self._changed.clear()
                    await self._changed.wait()
                self._last_seq += 1
                self._buffer.append((self._last_seq, chunk))
                self._buffered += len(chunk)
                self._pump()
                self._trim()

    def credit(self, count: int) -> None:
        """The server took `count` bytes."""
        self._window += count
        self._pump()
        self._changed.set()

    def resume(self, after_seq: int, window: int) -> None:
        """A new stream: the server has chunks up to `after_seq`, its window is fresh."""
        while self._buffer and self._buffer[0][0] <= after_seq:
            self._buffered -= len(self._buffer.popleft()[1])
        self._window = window
        self._retain = window
        self._sent_seq = self._buffer[0][0] - 1 if self._buffer else self._last_seq
        self._pump()
        self._changed.set()

    def _has_room(self, size: int) -> bool:
        return self._sent_seq == self._last_seq and size <= self._window

    def _split(self, data: bytes) -> list[bytes]:
        # The server makes room again once half the window is used: a larger chunk could wait for
        # ever behind a small one.
        size = max(1, min(self._retain // 2, MAX_CHUNK_BYTES))
        return [data[at : at + size] for at in range(0, len(data), size)]

    def _pump(self) -> None:
        for seq, chunk in self._buffer:
            if seq <= self._sent_seq:
                continue
            if len(chunk) > self._window:
                return
            self._window -= len(chunk)
            self._sent_seq = seq
            self._send(agents.AgentUp(partial=agents.Partial(ref=self._ref, seq=seq, chunk=chunk)))

    def _trim(self) -> None:
        while self._buffered > self._retain and self._buffer[0][0] <= self._sent_seq:
            self._buffered -= len(self._buffer.popleft()[1])
