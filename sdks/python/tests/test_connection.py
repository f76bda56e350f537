"""The life of a connection: reconnects, verdicts, drains, heartbeats, endings."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_server import FakeServer, ref
from harness import new_agent, staged, value_of
from test_session import STOPPED, fixture

from parallax_sdk import Context, RefusedError, SupersededError, TaskError
from parallax_sdk._generated import agents_pb2 as agents

RUNNING = agents.InventoryItem.STATE_RUNNING
FINISHED = agents.InventoryItem.STATE_FINISHED


def verdict(task_id: str, **kind: Any) -> agents.Verdict:
    return agents.Verdict(ref=ref(task_id), **kind)


async def test_an_unacknowledged_result_is_kept_and_sent_again(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server, staged(server, fixture(server)) as stage:
        stage.peer.task("t1", "echo", "mine")
        stage.peer.task("t2", "echo", "acked")
        for _ in range(2):
            await stage.peer.skip_to("result")
        stage.peer.send(result_ack=agents.ResultAck(ref=ref("t2")))
        assert await stage.peer.is_silent()
        stage.peer.hang_up()
        peer, hello = await stage.reconnected()
        assert hello.instance_uuid == stage.hello.instance_uuid
        assert [(item.ref, item.state) for item in hello.inventory] == [(ref("t1"), FINISHED)]
        assert hello.credit == 4
        peer.welcome([verdict("t1", send_result=agents.SendResult())])
        result = await peer.take("result")
        assert (value_of(result), result.credit) == ("mine", 0)
        peer.send(result_ack=agents.ResultAck(ref=ref("t1")))
        assert await peer.is_silent()
        peer.hang_up()
        _, hello = await stage.reconnected()
        assert not hello.inventory


async def test_running_tasks_survive_a_dropped_connection(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)
        release = asyncio.Event()

        @agent.capability("wait")
        async def wait(value: Any, ctx: Context) -> str:
            await ctx.partial("aa")
            await ctx.partial("bb")
            await release.wait()
            await ctx.partial("cc")
            return "done"

        async with staged(server, agent) as stage:
            stage.peer.task("t1", "wait")
            await stage.peer.skip_to("partial")
            await stage.peer.take("partial")
            stage.peer.hang_up()
            peer, hello = await stage.reconnected()
            assert [(item.ref, item.state, item.last_up_seq) for item in hello.inventory] == [
                (ref("t1"), RUNNING, 2)
            ]
            assert hello.credit == 3
            peer.welcome([verdict("t1", keep=agents.Keep(after_seq=1))])
            again = await peer.take("partial")
            assert (again.seq, again.chunk) == (2, b"bb")
            release.set()
            third = await peer.take("partial")
            assert (third.seq, third.chunk) == (3, b"cc")
            result = await peer.take("result")
            assert (value_of(result), result.credit) == ("done", 1)


async def test_a_task_that_ends_between_hello_and_welcome_is_reported(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)
        release = asyncio.Event()

        @agent.capability("wait")
        async def wait(value: Any, ctx: Context) -> str:
            await release.wait()
            return "done"

        async with staged(server, agent) as stage:
            stage.peer.task("t1", "wait")
            await stage.peer.take("accepted")
            stage.peer.hang_up()
            peer, hello = await stage.reconnected()
            assert hello.credit == 3
            release.set()
            await asyncio.sleep(0)
            peer.welcome([verdict("t1", keep=agents.Keep())])
            result = await peer.take("result")
            assert (value_of(result), result.credit) == ("done", 1)


async def test_the_verdicts_cancel_and_forget_are_followed(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server, staged(server, fixture(server)) as stage:
        for task_id in ("t1", "t2"):
            stage.peer.task(task_id, "slow", {"ms": 600_000})
        stage.peer.task("t3", "echo")
        await stage.peer.skip_to("result")
        stage.peer.hang_up()
        peer, hello = await stage.reconnected()
        assert hello.credit == 2
        peer.welcome(
            [
                verdict("t1", cancel=agents.CancelVerdict(reason="nobody waits")),
                verdict("t2", forget=agents.Forget()),
                verdict("t3", forget=agents.Forget()),
            ]
        )
        ack = await peer.take("cancel_ack")
        assert (ack.ref, ack.outcome) == (ref("t1"), STOPPED)
        granted = (await peer.take("credit")).n
        assert granted + (await peer.take("credit")).n == 2
        peer.hang_up()
        _, hello = await stage.reconnected()
        assert not hello.inventory


async def test_a_cancel_that_nobody_could_hear_is_told_after_the_reconnect(
    tmp_path: Path,
) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)
        cancelled, release = asyncio.Event(), asyncio.Event()

        @agent.capability("tidy")
        async def tidy(value: Any, ctx: Context) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
                await release.wait()

        async with staged(server, agent) as stage:
            stage.peer.task("t1", "tidy")
            await stage.peer.take("accepted")
            stage.peer.send(cancel=agents.Cancel(ref=ref("t1")))
            await cancelled.wait()
            stage.peer.hang_up()
            await stage.peer.ended()
            peer, _ = await stage.reconnected()
            release.set()
            await asyncio.sleep(0)
            peer.welcome([verdict("t1", keep=agents.Keep())])
            assert (await peer.take("failed")).code == "cancelled"


async def test_the_token_is_read_again_for_each_connection(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server, staged(server, fixture(server)) as stage:
        server.token_file.write_text("secret-2\n", encoding="ascii")
        stage.peer.goaway(agents.Goaway.REASON_UNAUTHENTICATED, message="expired")
        peer, _ = await stage.reconnected()
        assert peer.token == "Bearer secret-2"
        server.token_file.write_text("secret-3", encoding="ascii")
        peer.hang_up(grpc.StatusCode.UNAUTHENTICATED, "revoked")
        peer, _ = await stage.reconnected()
        assert peer.token == "Bearer secret-3"


async def test_the_servers_delay_is_honoured(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with FakeServer(tmp_path) as server, staged(server, fixture(server)) as stage:
        before = loop.time()
        stage.peer.goaway(agents.Goaway.REASON_SHUTDOWN, reconnect_after_ms=300)
        peer, _ = await stage.reconnected()
        assert loop.time() - before >= 0.3
        before = loop.time()
        peer.hang_up(grpc.StatusCode.UNAVAILABLE, "busy", retry_after_ms=400)
        await stage.reconnected()
        assert loop.time() - before >= 0.4


async def test_a_superseded_agent_ends_with_a_clear_error(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server, staged(server, fixture(server)) as stage:
        stage.peer.goaway(agents.Goaway.REASON_SUPERSEDED, message="session con_2 is newer")
        with pytest.raises(SupersededError, match="con_2 is newer"):
            await stage.over()


async def test_a_refused_agent_ends_with_the_servers_reason(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        serving = asyncio.ensure_future(fixture(server).serve())
        peer, _ = await server.connected()
        peer.hang_up(grpc.StatusCode.PERMISSION_DENIED, "the key may not claim 'tested'")
        with pytest.raises(RefusedError, match="may not claim 'tested'"):
            await serving


async def test_a_refusal_that_races_with_the_hello_is_still_understood(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        for _ in range(30):
            server.refusals.append(grpc.StatusCode.PERMISSION_DENIED)
            with pytest.raises(RefusedError, match="not today"):
                await fixture(server).serve()


async def test_a_drain_finishes_what_runs_and_takes_nothing_new(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server, stop_grace=30.0)
        release = asyncio.Event()

        @agent.capability("wait")
        async def wait(value: Any, ctx: Context) -> str:
            await release.wait()
            return "done"

        async with staged(server, agent) as stage:
            stage.peer.task("t1", "wait")
            await stage.peer.take("accepted")
            agent.stop()
            assert 0 < (await stage.peer.take("drain")).deadline_ms <= 30_000
            release.set()
            result = await stage.peer.take("result")
            assert (value_of(result), result.credit) == ("done", 0)
            stage.peer.send(result_ack=agents.ResultAck(ref=ref("t1")))
            stage.peer.goaway(agents.Goaway.REASON_DRAINED)
            await stage.over()


async def test_a_task_that_outlives_the_grace_is_failed_as_retryable(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        async with staged(server, fixture(server, stop_grace=0.5)) as stage:
            stage.peer.task("t1", "slow", {"ms": 600_000})
            await stage.peer.take("accepted")
            stage.agent.stop()
            failed = await stage.peer.skip_to("failed")
            assert (failed.code, failed.retryable) == ("agent_stopping", True)
            await stage.over()


async def test_a_drain_goes_on_after_a_reconnect(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        async with staged(server, fixture(server, stop_grace=30.0)) as stage:
            stage.peer.task("t1", "slow", {"ms": 600_000})
            await stage.peer.take("accepted")
            stage.agent.stop()
            await stage.peer.take("drain")
            stage.peer.hang_up()
            peer, hello = await stage.reconnected()
            assert hello.credit == 0
            peer.welcome([verdict("t1", cancel=agents.CancelVerdict())])
            await peer.skip_to("drain")
            peer.goaway(agents.Goaway.REASON_DRAINED)
            await stage.over()


async def test_a_stop_while_disconnected_and_idle_ends_at_once(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        async with staged(server, fixture(server, stop_grace=30.0)) as stage:
            stage.peer.goaway(agents.Goaway.REASON_SHUTDOWN, reconnect_after_ms=600_000)
            await stage.peer.ended()
            stage.agent.stop()
            await stage.over()


async def test_a_removed_agent_finishes_its_tasks_and_ends(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server, stop_grace=30.0)
        release = asyncio.Event()

        @agent.capability("wait")
        async def wait(value: Any, ctx: Context) -> str:
            await release.wait()
            return "done"

        async with staged(server, agent) as stage:
            stage.peer.task("t1", "wait")
            await stage.peer.take("accepted")
            stage.peer.goaway(agents.Goaway.REASON_REMOVED)
            await stage.peer.take("drain")
            release.set()
            assert value_of(await stage.peer.take("result")) == "done"
            stage.peer.send(result_ack=agents.ResultAck(ref=ref("t1")))
            await stage.over()


async def test_a_removed_agent_ends_when_the_stream_does(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        async with staged(server, fixture(server, stop_grace=0.5)) as stage:
            stage.peer.task("t1", "slow", {"ms": 600_000})
            await stage.peer.take("accepted")
            stage.peer.goaway(agents.Goaway.REASON_REMOVED)
            stage.peer.hang_up()
            await stage.over()


async def test_heartbeats_renew_the_lease_and_pings_are_answered(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        async with staged(server, fixture(server), ttl_ms=600) as stage:
            stage.peer.task("t1", "slow", {"ms": 600_000})
            await stage.peer.take("accepted")
            heartbeat = await stage.peer.take("heartbeat")
            assert (heartbeat.lease_epoch, heartbeat.inflight) == (7, 1)
            stage.peer.send(ping=agents.Ping(nonce=2**63))
            assert (await stage.peer.skip_to("pong")).nonce == 2**63


async def test_a_silent_server_is_left(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        async with staged(server, fixture(server), ttl_ms=100) as stage:
            await stage.peer.ended()
            _, hello = await stage.reconnected()
            assert hello.instance_uuid == stage.hello.instance_uuid


async def test_an_upload_goes_on_after_a_reconnect(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)
        release = asyncio.Event()

        @agent.capability("large")
        async def large(value: Any, ctx: Context) -> str:
            await release.wait()
            return "x" * 400_000

        async with staged(server, agent) as stage:
            stage.peer.task("t1", "large")
            await stage.peer.take("accepted")
            stage.peer.hang_up()
            await stage.peer.ended()
            release.set()
            peer, hello = await stage.reconnected()
            assert [item.state for item in hello.inventory] == [RUNNING]
            peer.welcome([verdict("t1", keep=agents.Keep())])
            assert (await peer.take("result")).value.blob.size_bytes == 400_002


async def test_one_failing_task_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        agent = new_agent(server)
        release = asyncio.Event()

        @agent.capability("both")
        async def both(value: bool, ctx: Context) -> str:
            if value:
                raise TaskError("broken")
            await release.wait()
            return "fine"

        async with staged(server, agent) as stage:
            stage.peer.task("t1", "both", False)
            stage.peer.task("t2", "both", True)
            assert (await stage.peer.skip_to("failed")).ref == ref("t2")
            release.set()
            assert value_of(await stage.peer.take("result")) == "fine"
