"""Durable tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from urllib.parse import quote

from .._generated import api
from ..json_value import JsonValue
from .http import Request, Transport, is_passing
from .models import (
    InvokeResult,
    Partial,
    Progress,
    Skipped,
    TaskEvent,
    TaskRecord,
    sign_of_life,
)
from .pages import pages
from .problem import ApiError, TransportError

#: Between two looks for a server that is away, in seconds.
AWAY_S = 1.0


class Tasks:
    """Durable tasks: `client.tasks`."""

    def __init__(self, transport: Transport) -> None:
        self._api = transport

    async def get(self, task_id: str) -> TaskRecord:
        document: api.TaskView = await self._api.call("GET", _path(task_id))
        record = TaskRecord.of(document)
        answer = (document.get("outcome") or {}).get("answer")
        return record.with_answer(await whole(self._api, answer)) if answer else record

    async def list(
        self, agent: str | None = None, state: str | None = None
    ) -> AsyncIterator[TaskRecord]:
        """Tasks, newest first, page by page as they are needed."""
        query = {"agent": agent or "", "state": state or ""}
        async for document in pages(self._api, "/api/tasks", query):
            yield TaskRecord.of(document)

    async def cancel(self, task_id: str, reason: str = "") -> TaskRecord:
        """Asks for the end of a task; whether it stops shows in its state."""
        body = {"reason": reason}
        return TaskRecord.of(await self._api.call("POST", f"{_path(task_id)}/cancel", body))

    async def input(self, task_id: str, input_id: str, value: JsonValue) -> None:
        """Sends an answer, or any further message, to a running task."""
        body = {"input_id": input_id, "value": value}
        await self._api.call("POST", f"{_path(task_id)}/input", body)

    async def events(self, task_id: str, after: int = 0) -> AsyncGenerator[TaskEvent, None]:
        """Every change of a task, from the first one or from after a cursor, until its end.

        A server that restarts meanwhile interrupts this and does not end it.
        """
        async with aclosing(self.watch(task_id, after)) as news:
            async for item in news:
                if isinstance(item, TaskEvent):
                    yield item

    async def watch(
        self, task_id: str, after: int = 0
    ) -> AsyncGenerator[TaskEvent | Progress | Partial | Skipped, None]:
        """As `events`, and with what the attempt under way says of itself on the way.

        Progress and partial results are told to those who watch at that time.
        """
        request = Request("GET", f"{_path(task_id)}/events")
        cursor = str(after) if after else ""
        async with aclosing(self._api.follow(request, cursor)) as entries:
            async for entry in entries:
                if event := entry.get("event"):
                    yield TaskEvent.of(event)
                elif sign := sign_of_life(entry):
                    yield sign
                elif (count := entry.get("skipped")) is not None:
                    yield Skipped(count)

    async def wait(self, task_id: str, timeout: float | None = None) -> TaskRecord:
        """Waits until the task has ended, also through restarts of the server;
        asyncio.TimeoutError after `timeout` seconds."""
        return await asyncio.wait_for(self._until_done(task_id), timeout)

    async def _until_done(self, task_id: str) -> TaskRecord:
        after, known = 0, False
        while True:
            try:
                record = await self.get(task_id)
                if record.done:
                    return record
                known = True
                async for event in self.events(task_id, after):
                    after = event.cursor
            except (TransportError, ApiError) as error:
                # A task that is known is durable: it is still there when the server is back.
                if not known or not is_passing(error):
                    raise
                await asyncio.sleep(AWAY_S)


async def whole(transport: Transport, document: api.InvokeResponse) -> InvokeResult:
    """An answer with its value, also where that is too large to come along."""
    result = InvokeResult.of(document)
    if not document.get("blob"):
        return result
    return result.with_value(await transport.call("GET", f"{_path(result.task_id)}/blob"))


def _path(task_id: str) -> str:
    return f"/api/tasks/{quote(task_id, safe='')}"
