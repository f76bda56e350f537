"""Frames that wait to be written to one stream."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from .._generated import agents_pb2 as agents
from .keys import TaskKey


@dataclass
class _ProgressSlot:
    """A place in the queue that holds the newest progress of one task."""

    key: TaskKey
    frame: agents.AgentUp


class Outbox:
    """A queue in order of arrival.

    It stays bounded without a limit of its own: partials wait for their window,
    results for credit, and progress of one task replaces its own older progress.
    """

    def __init__(self) -> None:
        self._entries: deque[agents.AgentUp | _ProgressSlot] = deque()
        self._progress: dict[TaskKey, _ProgressSlot] = {}
        self._filled = asyncio.Event()
        self._flushed = asyncio.Event()
        self._flushed.set()

    def put(self, frame: agents.AgentUp) -> None:
        self._entries.append(frame)
        self._mark_filled()

    def put_progress(self, key: TaskKey, frame: agents.AgentUp) -> None:
        slot = self._progress.get(key)
        if slot is not None:
            slot.frame = frame
            return
        slot = _ProgressSlot(key, frame)
        self._progress[key] = slot
        self._entries.append(slot)
        self._mark_filled()

    async def next(self) -> agents.AgentUp:
        """The next frame; calling again says that the one before was written."""
        if not self._entries:
            self._filled.clear()
            self._flushed.set()
            await self._filled.wait()
        entry = self._entries.popleft()
        if isinstance(entry, _ProgressSlot):
            del self._progress[entry.key]
            return entry.frame
        return entry

    async def flushed(self) -> None:
        """Waits until everything that was put has been written."""
        await self._flushed.wait()

    def _mark_filled(self) -> None:
        self._flushed.clear()
        self._filled.set()
