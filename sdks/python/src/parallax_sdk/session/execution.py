"""Runs one task: from its input to the frame that ends it."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from typing import Protocol, cast

from .._generated import agents_pb2 as agents
from .._generated import common_pb2 as common
from ..capability import AsyncHandler, Capability, SyncHandler
from ..context import Context, SyncContext, TaskInfo
from ..errors import TaskError
from ..json_value import JsonValue, encode
from ..result import Result
from ..text import wire_text
from .link import Link
from .payload import store_value
from .task import RunningTask, Stop
from .threads import in_thread
from .trace import within_trace

log = logging.getLogger("parallax_sdk")


class Gates(Protocol):
    """Where a task waits for its turn."""

    def of(self, capability: str) -> tuple[asyncio.Semaphore, ...]: ...


class Stopped:
    """The work ended without a result because the server asked for that."""


Outcome = agents.TaskResult | agents.TaskFailed | Stopped


async def execute(
    task: RunningTask, capability: Capability | None, gates: Gates, link: Link, agent_name: str
) -> Outcome:
    """Never raises for what a handler does; returns when the handler has ended."""
    if capability is None:
        return failure(
            task,
            TaskError(
                "unknown_capability", f"this agent has no capability {task.wire.capability!r}"
            ),
        )
    work: asyncio.Task[object] = asyncio.ensure_future(_work(task, capability, gates, agent_name))
    timer = _stop_at_deadline(task)
    task.attach(work)
    try:
        await asyncio.wait({work})
    except asyncio.CancelledError:
        # The event loop itself is closing.
        work.cancel()
        raise
    finally:
        if timer is not None:
            timer.cancel()
    try:
        value = work.result()
    except asyncio.CancelledError:
        return _stopped(task)
    except TaskError as error:
        return failure(task, error)
    except Exception as error:
        log.exception("task %s: %s failed", task.key.task_id, capability.name, exc_info=error)
        message = str(error) or type(error).__name__
        return failure(task, TaskError("internal", message))
    return await _success(task, value, link)


def failure(task: RunningTask, error: TaskError) -> agents.TaskFailed:
    """The frame for an error. A handler that failed after its deadline was late."""
    if task.stop_reason is Stop.DEADLINE:
        error = _LATE
    return agents.TaskFailed(
        ref=task.ref,
        code=wire_text(error.code, 256),
        message=wire_text(error.message),
        retryable=error.retryable,
        retry_after_ms=round((error.retry_after or 0.0) * 1000),
    )


_LATE = TaskError("deadline_exceeded", "the task was not done by its deadline")

_STOP_ERRORS = {
    Stop.DEADLINE: _LATE,
    Stop.EXIT: TaskError("agent_stopping", "the agent stopped before the task", retryable=True),
    Stop.FLOODED: TaskError("input_overflow", "too many inputs were left unread by the task"),
}


def _stopped(task: RunningTask) -> Outcome:
    if task.ack_owed or task.stop_reason is Stop.FORGOTTEN:
        return Stopped()
    if task.stop_reason is None:
        return failure(task, TaskError("internal", "the handler cancelled itself"))
    return failure(task, _STOP_ERRORS[task.stop_reason])


async def _work(task: RunningTask, capability: Capability, gates: Gates, agent_name: str) -> object:
    async with AsyncExitStack() as held:
        # The capability's own gate first: a task that waits for it must not
        # take the agent's slot from others.
        for gate in gates.of(capability.name):
            await held.enter_async_context(gate)
        value = await task.fetch_input()
        if capability.schema is not None:
            capability.schema.check(value)
        return await _call(task, capability, value, agent_name)


async def _call(
    task: RunningTask, capability: Capability, value: JsonValue, agent_name: str
) -> object:
    info = _info(task.wire, agent_name)
    logger = logging.LoggerAdapter(
        logging.getLogger(f"parallax_sdk.task.{capability.name}"), {"task_id": info.task_id}
    )
    try:
        with within_trace(info.trace):
            if not capability.is_async:
                loop = asyncio.get_running_loop()
                context = SyncContext(info, task, task.due, logger, task.stop_asked, loop=loop)
                name = f"{capability.name}-{info.task_id}"
                plain = cast(SyncHandler, capability.handler)
                return await in_thread(lambda: plain(value, context), name, context.ask_to_stop)
            coroutine = cast(AsyncHandler, capability.handler)
            return await coroutine(value, Context(info, task, task.due, logger, task.stop_asked))
    except (SystemExit, KeyboardInterrupt) as error:
        # Left alone they would end the agent and every other task with it.
        raise RuntimeError(f"the handler raised {type(error).__name__}") from error


async def _success(task: RunningTask, value: object, link: Link) -> Outcome:
    if task.stop_reason is Stop.DEADLINE:
        return failure(task, _LATE)
    result = value if isinstance(value, Result) else Result(value)
    try:
        return await _result_frame(task.ref, result, link)
    except TaskError as error:
        return failure(task, error)
    except Exception as error:
        # For example an Evidence that is a dict: the author's mistake, not a crash.
        log.exception("task %s: its result cannot be sent", task.key.task_id)
        return failure(task, TaskError("invalid_result", f"the result cannot be sent: {error}"))


async def _result_frame(ref: common.TaskRef, result: Result, link: Link) -> agents.TaskResult:
    data = encode(result.value)
    frame = agents.TaskResult(
        ref=ref,
        confidence=result.confidence_to_wire(),
        evidence=[item.to_wire() for item in result.evidence],
        usage=None if result.usage is None else result.usage.to_wire(),
    )
    room = link.limits.max_frame - frame.ByteSize() - FRAME_OVERHEAD_BYTES
    if room < 0:
        raise TaskError(
            "result_too_large",
            f"the evidence has {frame.ByteSize()} bytes; a frame takes {link.limits.max_frame}",
        )
    payload = await store_value(link, ref, data, as_blob=len(data) > room)
    frame.value.CopyFrom(payload)
    return frame


#: Tags, lengths, credit and a BlobRef around what was measured already.
FRAME_OVERHEAD_BYTES = 1024


def _stop_at_deadline(task: RunningTask) -> asyncio.TimerHandle | None:
    if task.due is None:
        return None
    delay = max(0.0, task.due - time.monotonic())
    return asyncio.get_running_loop().call_later(delay, task.stop, Stop.DEADLINE)


def _info(task: agents.Task, agent_name: str) -> TaskInfo:
    context = task.context
    return TaskInfo(
        task_id=task.ref.task_id,
        attempt=task.ref.attempt,
        capability=task.capability,
        agent_name=agent_name,
        idempotency_key=task.idempotency_key,
        run=task.ref.run,
        step=task.ref.step,
        message_id=context.message_id,
        context_id=context.context_id,
        session_id=context.session_id,
        caller=context.caller,
        traceparent=context.traceparent,
        tracestate=context.tracestate,
        baggage=context.baggage,
    )
