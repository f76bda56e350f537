"""The agent that the conformance suite drives, one capability per promise.

    python sdks/python/conformance/fixture.py

Reads the usual environment and prints `ready` after the first Welcome.
"""

from __future__ import annotations

import asyncio
from typing import Any

from parallax_sdk import Agent, Context, Evidence, Result, TaskError

agent = Agent("conformance-fixture", concurrency=4)

_serial_running = 0


@agent.capability("echo", idempotent=True)
async def echo(value: Any, ctx: Context) -> Result:
    """Answers its input."""
    return Result(value, confidence=0.75, evidence=[Evidence("note", "echoed")])


@agent.capability("slow")
async def slow(value: dict[str, int], ctx: Context) -> dict[str, int]:
    """Sleeps, and stops when it is cancelled."""
    await asyncio.sleep(value["ms"] / 1000)
    return {"slept": value["ms"]}


@agent.capability("stubborn")
async def stubborn(value: dict[str, int], ctx: Context) -> dict[str, bool]:
    """Sleeps through its cancellation."""
    loop = asyncio.get_running_loop()
    end = loop.time() + value["ms"] / 1000
    while (left := end - loop.time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue  # what this capability is for
    return {"stubborn": True}


@agent.capability("fail")
async def fail(value: dict[str, Any], ctx: Context) -> None:
    """Fails as it is told."""
    raise TaskError(
        value["code"],
        value.get("message", ""),
        retryable=value.get("retryable", False),
        retry_after=value.get("retry_after_ms", 0) / 1000,
    )


@agent.capability("crash")
async def crash(value: Any, ctx: Context) -> None:
    """Raises something that is no TaskError."""
    raise RuntimeError("boom")


@agent.capability("stream")
async def stream(value: dict[str, int], ctx: Context) -> dict[str, int]:
    """Sends partials, with progress."""
    if value.get("after_input"):
        await anext(ctx.inputs)
    chunks = value["chunks"]
    for number in range(chunks):
        await ctx.partial(b"x" * value["bytes"])
        ctx.progress((number + 1) / chunks, f"chunk {number + 1}")
    return {"chunks": chunks}


@agent.capability("large")
async def large(value: dict[str, int], ctx: Context) -> dict[str, str]:
    """Returns many bytes."""
    return {"data": "x" * value["bytes"]}


@agent.capability("size")
async def size(value: dict[str, str], ctx: Context) -> dict[str, int]:
    """Counts what it was given."""
    return {"bytes": len(value["data"])}


@agent.capability("serial", max_concurrency=1)
async def serial(value: dict[str, int], ctx: Context) -> dict[str, bool]:
    """Tells whether it ran beside itself."""
    global _serial_running  # noqa: PLW0603 - shared by the runs on purpose
    _serial_running += 1
    try:
        overlapped = _serial_running > 1
        await asyncio.sleep(value["ms"] / 1000)
        return {"overlapped": overlapped or _serial_running > 1}
    finally:
        _serial_running -= 1


@agent.capability("deadline")
async def deadline(value: Any, ctx: Context) -> dict[str, int | None]:
    """Tells how much time is left."""
    return {"time_left_ms": None if ctx.time_left is None else round(ctx.time_left * 1000)}


@agent.capability("ask")
async def ask(value: Any, ctx: Context) -> dict[str, Any]:
    """Waits for one input."""
    message = await anext(ctx.inputs)
    return {"answer": message.value}


@agent.capability("context")
async def context(value: Any, ctx: Context) -> dict[str, Any]:
    """Tells what it knows about its task."""
    return {
        "traceparent": ctx.traceparent,
        "tracestate": ctx.info.tracestate,
        "baggage": ctx.info.baggage,
        "task_id": ctx.task_id,
        "attempt": ctx.attempt,
        "caller": ctx.info.caller,
        "context_id": ctx.info.context_id,
    }


@agent.capability(
    "schema",
    input_schema={
        "type": "object",
        "required": ["n"],
        "properties": {"n": {"type": "integer"}},
    },
)
async def schema(value: dict[str, int], ctx: Context) -> dict[str, bool]:
    """Takes only what its schema allows."""
    return {"ok": True}


_announced = False


@agent.on_ready
def announce() -> None:
    """Once: a reconnect is no news to the suite."""
    global _announced  # noqa: PLW0603 - the process has one announcement
    if not _announced:
        _announced = True
        print("ready", flush=True)


if __name__ == "__main__":
    agent.run()
