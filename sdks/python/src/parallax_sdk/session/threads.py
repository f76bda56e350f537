"""Runs plain functions beside the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], name: str, on_cancel: Callable[[], None]) -> T:
    """Awaits `work` in a thread of its own, and stays until the thread ends.

    Python cannot stop a thread. A cancellation calls `on_cancel`, which may ask
    the function to end, and nothing else: whoever awaits this learns of the end
    when it happens. The thread is a daemon, so that one that hangs cannot keep
    the process from exiting after its grace.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    context = contextvars.copy_context()
    values: list[T] = []
    errors: list[BaseException] = []

    def finish() -> None:
        if not done.done():
            done.set_result(None)

    def body() -> None:
        try:
            values.append(context.run(work))
        except BaseException as error:  # handed to the awaiting task
            errors.append(error)
        try:
            loop.call_soon_threadsafe(finish)
        except RuntimeError:
            # The loop was closed: the agent's grace ran out and nobody waits.
            return

    threading.Thread(target=body, name=name, daemon=True).start()
    while not done.done():
        try:
            await asyncio.wait({done})
        except asyncio.CancelledError:
            on_cancel()
    if errors:
        raise errors[0]
    return values[0]
