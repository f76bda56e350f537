"""Messages that reach a task while it runs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from .._generated import agents_pb2 as agents
from .._generated import common_pb2 as common
from ..json_value import JsonValue

#: Messages that may wait for a handler that does not read them.
MAX_WAITING = 1024
#: Ids that are remembered, so that a message repeated after a reconnect counts once.
MAX_REMEMBERED = 4096


@dataclass(frozen=True)
class InputMessage:
    """An answer or a further message for a running task."""

    id: str
    value: JsonValue


class InputQueue:
    """Bounded, in order of arrival, each id once."""

    def __init__(self, fetch: Callable[[common.Payload], Awaitable[JsonValue]]) -> None:
        self._fetch = fetch
        self._queue: asyncio.Queue[agents.Input] = asyncio.Queue(MAX_WAITING)
        self._seen: set[str] = set()
        self._order: deque[str] = deque()

    def push(self, message: agents.Input) -> bool:
        """False when the handler has left too many messages unread."""
        if message.id:
            if message.id in self._seen:
                return True
            self._remember(message.id)
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            return False
        return True

    def __aiter__(self) -> AsyncIterator[InputMessage]:
        return self

    async def __anext__(self) -> InputMessage:
        message = await self._queue.get()
        return InputMessage(message.id, await self._fetch(message.value))

    def _remember(self, message_id: str) -> None:
        self._seen.add(message_id)
        self._order.append(message_id)
        if len(self._order) > MAX_REMEMBERED:
            self._seen.discard(self._order.popleft())
