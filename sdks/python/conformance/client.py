"""What the end-to-end tests have a client do: `python client.py FOLDER`.

FOLDER is the source of an agent with the capability `echo`; the agent of
fixture.py is connected. Prints one JSON object for each step; the other SDKs
print the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from parallax_sdk import (
    ApiError,
    Client,
    DeploySpec,
    InvokeResult,
    Partial,
    Progress,
    TaskEvent,
    TaskFailedError,
)

EXTERNAL = "conformance-fixture"
HOSTED = "parrot"
TRACE = {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "a=b",
    "baggage": "c=d",
}
FAILURE = {"code": "empty", "message": "nothing there"}

client = Client()


def say(step: str, **found: Any) -> None:
    print(json.dumps({"step": step, **found}), flush=True)


async def refusal(work: Awaitable[object]) -> list[Any]:
    try:
        await work
    except ApiError as error:
        word = error.agent_code if isinstance(error, TaskFailedError) else ""
        return ["ApiError", error.code, error.status, word, error.retryable]
    return ["nothing"]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    while not await holds():  # noqa: ASYNC110 -- what is awaited is elsewhere
        await asyncio.sleep(0.05)


async def deploys(folder: str) -> None:
    spec: DeploySpec = {
        "name": HOSTED,
        "language": "javascript",
        "start": ["node", "main.js"],
        "stop_grace_ms": 3_000,
    }
    say("dry run", action=(await client.dry_run(folder, spec))["action"])
    deployed = await client.deploy(folder, spec)
    status = await client.agents.until_ready(deployed.agent, generation=deployed.generation)
    say(
        "ready",
        agent=deployed.agent,
        revision=deployed.revision,
        changed=deployed.changed,
        phase=status.phase,
        ready=status.ready,
    )
    again = await client.deploy(folder, spec)
    say("again", revision=again.revision, changed=again.changed)
    value: Any = (await client.invoke(HOSTED, "echo", "hé")).value
    say("hosted", value=value["echo"])


async def calls() -> None:
    echoed = await client.invoke(EXTERNAL, "echo", {"é": [1, None]}, deadline=30)
    say(
        "attached",
        value=echoed.value,
        confidence=echoed.confidence,
        source=echoed.confidence_source,
        evidence=[[item.kind, item.summary] for item in echoed.evidence],
    )
    told: list[Any] = []
    async for update in client.stream(EXTERNAL, "stream", {"chunks": 2, "bytes": 3}):
        if isinstance(update, Partial):
            told.append([update.seq, update.chunk])
        elif isinstance(update, InvokeResult):
            told.append(update.value)
    say("stream", told=told)
    large: Any = (await client.invoke(EXTERNAL, "large", {"bytes": 300_000})).value
    say("large", bytes=len(large["data"]))
    call = client.invoke(EXTERNAL, "context", trace=TRACE, context_id="talk")
    context: Any = (await call).value
    names = ("traceparent", "tracestate", "baggage", "context_id")
    say("context", **{name: context[name] for name in names})


async def refusals() -> None:
    stranger = Client(api_key_file=os.environ["WRONG_KEY_FILE"])
    invoke = client.invoke
    unknown = "tsk_06f9x2k8000000000000000000"
    say(
        "refused",
        failed=await refusal(invoke(EXTERNAL, "fail", {**FAILURE, "retryable": True})),
        streamed=await refusal(first(client.stream(EXTERNAL, "fail", {**FAILURE}))),
        agent=await refusal(invoke("nobody", "echo")),
        capability=await refusal(invoke(EXTERNAL, "sing")),
        # Whether the agent or the server notices first is chance, and shows in the rest.
        deadline=(await refusal(invoke(EXTERNAL, "slow", {"ms": 60_000}, deadline=0.1)))[1],
        key=await refusal(stranger.invoke(EXTERNAL, "echo")),
        task=await refusal(first(client.tasks.events(unknown))),
    )


async def first(items: AsyncIterator[object]) -> object:
    return await anext(items)


async def abandons() -> None:
    async def working() -> bool:
        async for entry in client.registry.list(capability="slow"):
            if entry.agent_name == EXTERNAL:
                return entry.in_flight > 0
        return False

    async def idle() -> bool:
        return not await working()

    call = asyncio.ensure_future(client.invoke(EXTERNAL, "slow", {"ms": 600_000}))
    await until(working)
    call.cancel()
    await asyncio.wait({call})
    await until(idle)
    say("abandoned")


async def durable() -> None:
    submit = client.submit
    task = await submit(EXTERNAL, "echo", "kept", idempotency_key="once")
    same = await submit(EXTERNAL, "echo", "kept", idempotency_key="once")
    done = await client.tasks.wait(task.id)
    told = [event.task.state async for event in client.tasks.events(task.id)]
    say(
        "durable",
        same=same.id == task.id,
        ended=task.done,
        state=done.state,
        value=done.result().value,
        last=told[-1],
        told=len(told) > 1,
    )
    other = await refusal(submit(EXTERNAL, "echo", "another", idempotency_key="once"))
    say("mismatch", other=other)
    failing = await client.tasks.wait((await submit(EXTERNAL, "fail", {**FAILURE})).id)
    failure = failing.failure
    assert failure is not None
    say(
        "failed",
        state=failing.state,
        code=failure.code,
        agent_code=failure.agent_code,
        message=failure.message,
    )
    asking = await submit(EXTERNAL, "ask")
    await running(asking.id)
    await client.tasks.input(asking.id, "i1", 42)
    say("asked", value=(await client.tasks.wait(asking.id)).result().value)
    await heard()
    endless = await submit(EXTERNAL, "slow", {"ms": 600_000})
    await running(endless.id)
    asked = await client.tasks.cancel(endless.id, "enough")
    ended = await client.tasks.wait(endless.id)
    say("cancelled", asked=asked.cancel != "none", state=ended.state)
    patient = await submit(EXTERNAL, "slow", {"ms": 1_500})
    await running(patient.id)
    waiting = asyncio.ensure_future(client.tasks.wait(patient.id))
    await asyncio.sleep(0)
    say("restart")
    say("survived", state=(await waiting).state)


async def heard() -> None:
    stream = {"chunks": 2, "bytes": 3, "after_input": True}
    task = await client.submit(EXTERNAL, "stream", stream)
    await running(task.id)
    partials: list[list[object]] = []
    progress, events = False, 0
    async for news in client.tasks.watch(task.id):
        if isinstance(news, Partial):
            partials.append([news.seq, news.chunk])
        elif isinstance(news, Progress):
            progress = True
        elif isinstance(news, TaskEvent):
            events += 1
            if events == 1:
                # From here on it is watched, and what it says is heard.
                await client.tasks.input(task.id, "go", None)
    say("heard", partials=partials, progress=progress)


async def running(task_id: str) -> None:
    """That an agent has taken a task on is no change of its own, but shows in its state."""

    async def taken() -> bool:
        return (await client.tasks.get(task_id)).state == "running"

    await until(taken)


async def watches() -> None:
    seen: set[tuple[str, str]] = set()
    stage = "present"
    async with aclosing(client.registry.watch()) as changes:
        async for change in changes:
            if change.type == "resync":
                seen.clear()
            elif change.type == "upserted":
                seen.add((change.agent_name, change.instance_uuid))
            elif change.type == "removed":
                seen.discard((change.agent_name, change.instance_uuid))
            if (stage, change.type, len(seen)) == ("present", "synced", 2):
                await client.agents.scale(HOSTED, 2)
                stage = "grown"
            elif (stage, len(seen)) == ("grown", 3):
                await client.agents.scale(HOSTED, 1)
                stage = "shrunk"
            elif (stage, len(seen)) == ("shrunk", 2):
                break
    say("watched", names=[entry.agent_name async for entry in client.registry.list()])


async def lists() -> None:
    tasks = [[task.capability, task.done] async for task in client.tasks.list(agent=EXTERNAL)]
    say("listed", tasks=tasks, agents=[view["name"] async for view in client.agents.list()])
    await client.agents.delete(HOSTED)

    async def gone() -> bool:
        return "not_found" in await refusal(client.agents.status(HOSTED))

    await until(gone)
    say("deleted")


async def main() -> None:
    await deploys(sys.argv[1])
    await calls()
    await refusals()
    await abandons()
    await durable()
    await watches()
    await lists()


asyncio.run(main())
