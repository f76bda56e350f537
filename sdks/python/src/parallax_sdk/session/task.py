"""One task in the hands of this agent."""

from __future__ import annotations

import asyncio
import enum
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from .._generated import agents_pb2 as agents
from ..json_value import JsonValue
from ..text import wire_text
from .inputs import InputMessage, InputQueue
from .keys import TaskKey
from .link import Link
from .partials import PartialStream
from .payload import fetch_value


class Stop(enum.Enum):
    """Why a handler was asked to stop. The first reason counts."""

    #: The server asked, by a Cancel or by its verdict.
    CANCEL = enum.auto()
    DEADLINE = enum.auto()
    #: The agent itself ends.
    EXIT = enum.auto()
    #: The server has forgotten the task: nothing is reported.
    FORGOTTEN = enum.auto()
    #: Too many inputs were left unread.
    FLOODED = enum.auto()


@dataclass(frozen=True)
class Finished:
    """A result, or failure, that waits for its ResultAck."""

    frame: agents.TaskResult | agents.TaskFailed
    last_seq: int

    def to_up(self, credit: int) -> agents.AgentUp:
        if isinstance(self.frame, agents.TaskResult):
            up = agents.AgentUp(result=self.frame)
            up.result.credit = credit
        else:
            up = agents.AgentUp(failed=self.frame)
            up.failed.credit = credit
        return up


class RunningTask:
    """A task from its receipt until its handler has really ended."""

    def __init__(self, task: agents.Task, link: Link) -> None:
        self.key = TaskKey.of(task.ref)
        self.wire = task
        self.ref = task.ref
        self.due = _due(task)
        self.partials = PartialStream(task.ref, link.limits.partial_window, link.send)
        self.stop_reason: Stop | None = None
        self.stop_asked = threading.Event()
        #: Whether the server waits for a CancelAck.
        self.ack_owed = False
        self._link = link
        self._inputs = InputQueue(lambda payload: fetch_value(link, task.ref, payload))
        self._work: asyncio.Task[object] | None = None

    def attach(self, work: asyncio.Task[object]) -> None:
        """The asyncio task that a stop cancels."""
        self._work = work
        if self.stop_reason is not None:
            work.cancel()

    def stop(self, reason: Stop) -> None:
        """Cancels the handler, once: a second cancellation would break into the
        clean-up that the first one started."""
        if reason is Stop.CANCEL:
            self.ack_owed = True
        if self.stop_reason is not None:
            if reason is Stop.FORGOTTEN:
                self.stop_reason = reason
            return
        self.stop_reason = reason
        self.stop_asked.set()
        if self._work is not None:
            self._work.cancel()

    def push_input(self, message: agents.Input) -> None:
        if not self._inputs.push(message):
            self.stop(Stop.FLOODED)

    def inventory(self) -> agents.InventoryItem:
        return agents.InventoryItem(
            ref=self.ref,
            state=agents.InventoryItem.STATE_RUNNING,
            last_up_seq=self.partials.last_seq,
        )

    @property
    def inputs(self) -> AsyncIterator[InputMessage]:
        return aiter(self._inputs)

    def progress(self, ppm: int | None, message: str) -> None:
        frame = agents.Progress(ref=self.ref, message=wire_text(message))
        if ppm is not None:
            frame.ppm = ppm
        self._link.send_progress(self.key, agents.AgentUp(progress=frame))

    async def partial(self, chunk: bytes) -> None:
        await self.partials.write(chunk)

    async def fetch_input(self) -> JsonValue:
        return await fetch_value(self._link, self.ref, self.wire.input)


def _due(task: agents.Task) -> float | None:
    """The deadline on this process's monotonic clock."""
    if task.time_left_ms:
        return time.monotonic() + task.time_left_ms / 1000
    if task.deadline_unix_ms:
        # The frame left the server in the very millisecond of the deadline.
        return time.monotonic()
    return None
