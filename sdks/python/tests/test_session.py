"""The stream: handshake, tasks, results, cancellation, deadlines, partials."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import grpc
import opentelemetry.trace
from fake_server import FakeServer, ref
from fixture import agent as fixture_agent
from harness import new_agent, staged, value_of

from parallax_sdk import Agent, Context, Result, SyncContext, Usage
from parallax_sdk._generated import agents_pb2 as agents
from parallax_sdk._generated import common_pb2 as common

STOPPED = agents.CancelAck.OUTCOME_STOPPED
TOO_LATE = agents.CancelAck.OUTCOME_TOO_LATE
UNKNOWN = agents.CancelAck.OUTCOME_UNKNOWN


def fixture(server: FakeServer, **options: Any) -> Agent:
    """An agent with the capabilities of the conformance fixture."""
    agent = new_agent(server, **options)
    for capability in fixture_agent._capabilities.values():
        agent.add(capability)
    return agent


async def test_the_hello_states_who_the_agent_is_and_what_it_can_do(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = fixture(server, labels={"zone": "a"})
        async with staged(server, agent) as stage:
            hello = stage.hello
            assert stage.peer.token == "Bearer secret-1"
            assert (hello.agent_name, hello.credit) == ("tested", 4)
            assert list(hello.proto_versions) == [1]
            assert hello.labels == {"zone": "a"}
            assert len(hello.instance_uuid) == 36
            by_name = {capability.name: capability for capability in hello.capabilities}
            assert by_name["echo"].idempotent
            assert by_name["echo"].description == "Answers its input."
            assert by_name["serial"].max_concurrency == 1
            assert b'"required":["n"]' in by_name["schema"].input_schema_json


async def test_a_task_is_accepted_answered_and_gives_its_credit_back(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server, staged(server, fixture(server)) as stage:
        text = "naïve 漢字 🙂 \u0000 \u2028 العربية"
        stage.peer.task("t1", "echo", {"text": text, "big": 2**80})
        assert (await stage.peer.take("accepted")).ref == ref("t1")
        result = await stage.peer.take("result")
        assert value_of(result) == {"text": text, "big": 2**80}
        assert (result.confidence.ppm, result.confidence.source) == (750_000, "self")
        assert [(item.kind, item.summary) for item in result.evidence] == [("note", "echoed")]
        assert result.credit == 1
        assert not result.HasField("usage")


async def test_a_result_carries_usage_and_leaves_unknown_confidence_out(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)

        @agent.capability("spend")
        async def spend(value: Any, ctx: Context) -> Result:
            return Result([1], usage=Usage(input_tokens=3, output_tokens=4))

        async with staged(server, agent) as stage:
            stage.peer.task("t1", "spend")
            result = await stage.peer.skip_to("result")
            assert (result.usage.input_tokens, result.usage.output_tokens) == (3, 4)
            assert not result.HasField("confidence")


async def test_failures_name_their_code_and_hide_their_stack(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server, staged(server, fixture(server)) as stage:
        told = {"code": "busy", "message": "später", "retryable": True, "retry_after_ms": 1500}
        stage.peer.task("t1", "fail", told)
        failed = await stage.peer.skip_to("failed")
        assert (failed.code, failed.message, failed.retryable) == ("busy", "später", True)
        assert (failed.retry_after_ms, failed.credit) == (1500, 1)
        stage.peer.task("t2", "crash")
        failed = await stage.peer.skip_to("failed")
        assert (failed.code, failed.message, failed.retryable) == ("internal", "boom", False)
        stage.peer.task("t3", "no such")
        assert (await stage.peer.skip_to("failed")).code == "unknown_capability"


async def test_an_input_that_does_not_fit_the_schema_never_reaches_the_handler(
    tmp_path: Path,
) -> None:
    async with FakeServer(tmp_path) as server, staged(server, fixture(server)) as stage:
        stage.peer.task("t1", "schema", {"n": "many"})
        failed = await stage.peer.skip_to("failed")
        assert (failed.code, failed.message) == (
            "invalid_input",
            "input.n: 'many' is not of type 'integer'",
        )
        stage.peer.task("t2", "schema", {"n": 3})
        assert value_of(await stage.peer.skip_to("result")) == {"ok": True}
        for number, text in enumerate((b"{", b"\xff", b"NaN", b"[-Infinity]", b"[" * 100_000)):
            stage.peer.task(f"bad{number}", "echo", input=common.Payload(json=text))
            assert (await stage.peer.skip_to("failed")).code == "invalid_input"


async def test_results_that_are_no_json_fail_instead_of_ending_the_agent(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)
        answers: list[Any] = [object(), float("nan"), "\ud800", Result(1, evidence=[{}])]  # type: ignore[list-item]

        @agent.capability("odd")
        async def odd(value: int, ctx: Context) -> Any:
            return answers[value]

        @agent.capability("exit")
        async def leave(value: Any, ctx: Context) -> None:
            raise SystemExit(3)

        async with staged(server, agent) as stage:
            for number in range(len(answers)):
                stage.peer.task(f"t{number}", "odd", number)
                assert (await stage.peer.skip_to("failed")).code == "invalid_result"
            stage.peer.task("t9", "exit")
            failed = await stage.peer.skip_to("failed")
            assert (failed.code, failed.message) == ("internal", "the handler raised SystemExit")


async def test_a_cancelled_handler_stops_and_frees_its_slot(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server, staged(server, fixture(server)) as stage:
        stage.peer.task("t1", "slow", {"ms": 600_000})
        await stage.peer.take("accepted")
        stage.peer.send(cancel=agents.Cancel(ref=ref("t1"), reason="enough", grace_ms=1000))
        ack = await stage.peer.take("cancel_ack")
        assert (ack.ref, ack.outcome) == (ref("t1"), STOPPED)
        assert (await stage.peer.take("credit")).n == 1


async def test_a_handler_that_ignores_its_cancellation_is_not_called_stopped(
    tmp_path: Path,
) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)
        release = asyncio.Event()

        @agent.capability("stubborn")
        async def stubborn(value: Any, ctx: Context) -> bool:
            try:
                await release.wait()
            except asyncio.CancelledError:
                assert ctx.cancelled
                await release.wait()
            return True

        async with staged(server, agent) as stage:
            stage.peer.task("t1", "stubborn")
            await stage.peer.take("accepted")
            stage.peer.send(cancel=agents.Cancel(ref=ref("t1"), grace_ms=1))
            assert await stage.peer.is_silent()
            release.set()
            assert (await stage.peer.take("cancel_ack")).outcome == TOO_LATE
            assert value_of(await stage.peer.take("result")) is True


async def test_a_cancel_for_an_ended_or_unknown_task_says_so(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server, staged(server, fixture(server)) as stage:
        stage.peer.task("t1", "echo")
        await stage.peer.skip_to("result")
        stage.peer.send(cancel=agents.Cancel(ref=ref("t1")))
        assert (await stage.peer.take("cancel_ack")).outcome == TOO_LATE
        stage.peer.send(result_ack=agents.ResultAck(ref=ref("t1")))
        stage.peer.send(cancel=agents.Cancel(ref=ref("t1")))
        assert (await stage.peer.take("cancel_ack")).outcome == TOO_LATE
        stage.peer.send(cancel=agents.Cancel(ref=ref("t1", attempt=2)))
        assert (await stage.peer.take("cancel_ack")).outcome == UNKNOWN


async def test_a_task_without_time_left_fails_with_deadline_exceeded(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server, staged(server, fixture(server)) as stage:
        stage.peer.task("t1", "slow", {"ms": 600_000}, time_left_ms=20)
        failed = await stage.peer.skip_to("failed")
        assert (failed.code, failed.credit) == ("deadline_exceeded", 1)
        stage.peer.task("t2", "deadline", time_left_ms=60_000)
        left = value_of(await stage.peer.skip_to("result"))["time_left_ms"]
        assert 0 < left <= 60_000
        stage.peer.task("t3", "deadline")
        assert value_of(await stage.peer.skip_to("result")) == {"time_left_ms": None}


async def test_a_limited_capability_queues_and_a_cancel_takes_it_from_the_queue(
    tmp_path: Path,
) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)
        release = asyncio.Event()
        started: list[str] = []

        @agent.capability("one", max_concurrency=1)
        async def one(value: Any, ctx: Context) -> list[str]:
            started.append(ctx.task_id)
            await release.wait()
            return list(started)

        async with staged(server, agent) as stage:
            for number in range(3):
                stage.peer.task(f"t{number}", "one")
                await stage.peer.take("accepted")
            stage.peer.send(cancel=agents.Cancel(ref=ref("t1")))
            ack = await stage.peer.take("cancel_ack")
            assert (ack.ref, ack.outcome) == (ref("t1"), STOPPED)
            release.set()
            assert value_of(await stage.peer.skip_to("result")) == ["t0"]
            assert value_of(await stage.peer.take("result")) == ["t0", "t2"]


async def test_partials_wait_for_the_window_and_count_without_holes(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = fixture(server)
        async with staged(server, agent, partial_window_bytes=250) as stage:
            stage.peer.task("t1", "stream", {"chunks": 4, "bytes": 100})
            assert (await stage.peer.skip_to("partial")).seq == 1
            assert (await stage.peer.skip_to("partial")).seq == 2
            assert await stage.peer.is_silent(but_for="progress")
            stage.peer.send(partial_credit=agents.PartialCredit(ref=ref("t1"), bytes=200))
            third = await stage.peer.take("partial")
            assert (third.seq, third.chunk) == (3, b"x" * 100)
            assert (await stage.peer.skip_to("partial")).seq == 4
            assert value_of(await stage.peer.skip_to("result")) == {"chunks": 4}


async def test_the_newest_progress_replaces_what_was_not_written_yet(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)

        @agent.capability("count")
        async def count(value: Any, ctx: Context) -> None:
            for number in range(1000):
                ctx.progress(number / 1000)
            ctx.progress(1.0, "all")

        async with staged(server, agent) as stage:
            stage.peer.task("t1", "count")
            await stage.peer.take("accepted")
            progress = await stage.peer.take("progress")
            assert (progress.ppm, progress.message) == (1_000_000, "all")
            await stage.peer.take("result")


async def test_a_partial_larger_than_half_the_window_is_split(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        async with staged(server, fixture(server), partial_window_bytes=40) as stage:
            stage.peer.task("t1", "stream", {"chunks": 1, "bytes": 100})
            sizes = []
            for _ in range(5):
                partial = await stage.peer.skip_to("partial")
                sizes.append((partial.seq, len(partial.chunk)))
                credit = agents.PartialCredit(ref=ref("t1"), bytes=len(partial.chunk))
                stage.peer.send(partial_credit=credit)
            assert sizes == [(seq, 20) for seq in range(1, 6)]


async def test_a_small_partial_before_a_large_one_does_not_wait_for_ever(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)

        @agent.capability("stream")
        async def stream(value: Any, ctx: Context) -> None:
            await ctx.partial("x")
            await ctx.partial("y" * 100)

        async with staged(server, agent, partial_window_bytes=100) as stage:
            stage.peer.task("t1", "stream")
            used = taken = 0
            while taken < 101:
                partial = await stage.peer.skip_to("partial")
                used += len(partial.chunk)
                taken += len(partial.chunk)
                if used >= 50:  # as the server does: room again once half is used
                    credit = agents.PartialCredit(ref=ref("t1"), bytes=used)
                    stage.peer.send(partial_credit=credit)
                    used = 0
            await stage.peer.skip_to("result")


async def test_an_input_reaches_the_running_task_once(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)

        @agent.capability("two")
        async def two(value: Any, ctx: Context) -> list[Any]:
            return [(await anext(ctx.inputs)).value, (await anext(ctx.inputs)).value]

        async with staged(server, agent) as stage:
            stage.peer.task("t1", "two")
            for message_id, value in (("a", b"1"), ("a", b"1"), ("b", b'"\xc3\xa9"')):
                payload = common.Payload(json=value)
                stage.peer.send(input=agents.Input(ref=ref("t1"), id=message_id, value=payload))
            assert value_of(await stage.peer.skip_to("result")) == [1, "é"]


async def test_the_context_tells_what_the_server_said(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server, staged(server, fixture(server)) as stage:
        context = common.TaskContext(traceparent="00-ab-cd-01", caller="ci", context_id="c9")
        stage.peer.task("t1", "context", attempt=3, context=context)
        assert value_of(await stage.peer.skip_to("result")) == {
            "traceparent": "00-ab-cd-01",
            "tracestate": "",
            "baggage": "",
            "task_id": "t1",
            "attempt": 3,
            "caller": "ci",
            "context_id": "c9",
        }


async def test_spans_of_a_handler_are_children_of_its_task(tmp_path: Path) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)

        def trace_id(ctx: Context | SyncContext) -> list[str]:
            seen = opentelemetry.trace.get_current_span().get_span_context().trace_id
            return [f"{seen:032x}", ctx.trace.get("traceparent", "")]

        @agent.capability("coroutine")
        async def coroutine(value: Any, ctx: Context) -> list[str]:
            return trace_id(ctx)

        @agent.capability("plain")
        def plain(value: Any, ctx: SyncContext) -> list[str]:
            return trace_id(ctx)

        async with staged(server, agent) as stage:
            context = common.TaskContext(traceparent=traceparent)
            for name in ("coroutine", "plain"):
                stage.peer.task(name, name, context=context)
                found = value_of(await stage.peer.skip_to("result"))
                assert found == [traceparent[3:35], traceparent]
                stage.peer.task(f"{name} alone", name)
                assert value_of(await stage.peer.skip_to("result")) == ["0" * 32, ""]


async def test_a_large_result_goes_through_the_blob_service(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server, staged(server, fixture(server)) as stage:
        server.blob_failures.append(grpc.StatusCode.UNAVAILABLE)
        stage.peer.task("t1", "large", {"bytes": 1_000_000})
        blob = (await stage.peer.skip_to("result")).value.blob
        data = b'{"data":"' + b"x" * 1_000_000 + b'"}'
        assert server.blobs[blob.digest] == data
        assert (blob.size_bytes, blob.media_type) == (len(data), "application/json")
        assert [header.ref for header in server.put_headers] == [ref("t1")]


async def test_a_result_above_the_blob_limit_or_refused_fails(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = fixture(server)
        async with staged(server, agent, max_inline_bytes=1000, max_blob_bytes=5000) as stage:
            stage.peer.task("t1", "large", {"bytes": 10_000})
            assert (await stage.peer.skip_to("failed")).code == "result_too_large"
            server.blob_failures.append(grpc.StatusCode.RESOURCE_EXHAUSTED)
            stage.peer.task("t2", "large", {"bytes": 2000})
            failed = await stage.peer.skip_to("failed")
            assert (failed.code, failed.retryable) == ("result_upload_failed", False)


async def test_a_large_input_is_fetched_continued_and_checked(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server, staged(server, fixture(server)) as stage:
        blob = server.store(b'{"data":"' + b"y" * 500_000 + b'"}')
        server.blob_failures.append(grpc.StatusCode.UNAVAILABLE)
        stage.peer.task("t1", "size", input=common.Payload(blob=blob))
        assert value_of(await stage.peer.skip_to("result")) == {"bytes": 500_000}
        server.blobs[blob.digest] = server.blobs[blob.digest].replace(b"y", b"z")
        stage.peer.task("t2", "size", input=common.Payload(blob=blob))
        failed = await stage.peer.skip_to("failed")
        assert (failed.code, failed.retryable) == ("input_unavailable", True)


async def test_a_plain_function_runs_in_a_thread_and_may_speak(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)

        @agent.capability("plain")
        def plain(value: int, ctx: SyncContext) -> dict[str, Any]:
            ctx.progress(0.5)
            ctx.partial("half")
            answer = ctx.next_input().value
            return {"thread": threading.current_thread().name, "answer": answer}

        async with staged(server, agent) as stage:
            stage.peer.task("t1", "plain", 1)
            await stage.peer.take("accepted")
            assert (await stage.peer.take("progress")).ppm == 500_000
            assert (await stage.peer.take("partial")).chunk == b"half"
            payload = common.Payload(json=b"42")
            stage.peer.send(input=agents.Input(ref=ref("t1"), id="i", value=payload))
            value = value_of(await stage.peer.take("result"))
            assert value == {"thread": "plain-t1", "answer": 42}


async def test_a_thread_is_reported_when_it_ends_and_not_before(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)
        release = threading.Event()

        @agent.capability("deaf")
        def deaf(value: Any, ctx: SyncContext) -> str:
            release.wait(30)
            return "done"

        @agent.capability("polite")
        def polite(value: Any, ctx: SyncContext) -> str:
            ctx.next_input()
            return "never"

        async with staged(server, agent) as stage:
            stage.peer.task("t1", "deaf")
            stage.peer.task("t2", "polite")
            await stage.peer.take("accepted")
            await stage.peer.take("accepted")
            for task_id in ("t1", "t2"):
                stage.peer.send(cancel=agents.Cancel(ref=ref(task_id), grace_ms=1))
            ack = await stage.peer.take("cancel_ack")
            assert (ack.ref, ack.outcome) == (ref("t2"), STOPPED)
            await stage.peer.take("credit")
            assert await stage.peer.is_silent()
            release.set()
            assert (await stage.peer.take("cancel_ack")).outcome == TOO_LATE
            assert value_of(await stage.peer.take("result")) == "done"


async def test_a_repeated_task_frame_starts_nothing_twice(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)
        calls: list[int] = []

        @agent.capability("count")
        async def count(value: Any, ctx: Context) -> int:
            calls.append(1)
            return len(calls)

        async with staged(server, agent) as stage:
            for _ in range(2):
                stage.peer.task("t1", "count")
                assert value_of(await stage.peer.skip_to("result")) == 1


async def test_credit_never_exceeds_the_servers_limit(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        async with staged(server, fixture(server), max_credit=2) as stage:
            stage.peer.task("t1", "echo")
            stage.peer.task("t2", "echo")
            first, second = [await stage.peer.skip_to("result") for _ in range(2)]
            assert first.credit + second.credit == 2
            stage.peer.hang_up()
            _, hello = await stage.reconnected()
            assert hello.credit == 2


async def test_a_server_that_never_acknowledges_gets_no_further_credit(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        async with staged(server, fixture(server, concurrency=300), max_credit=300) as stage:
            for number in range(256):
                stage.peer.task(f"t{number}", "echo")
            credits = [(await stage.peer.skip_to("result")).credit for _ in range(256)]
            assert (sum(credits), credits[-1]) == (255, 0)
            stage.peer.send(result_ack=agents.ResultAck(ref=ref("t0")))
            assert (await stage.peer.take("credit")).n == 1
