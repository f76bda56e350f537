"""The HTTP client, against a real HTTP server."""

from __future__ import annotations

import asyncio
import email.parser
import email.policy
import http.server
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from parallax_sdk import (
    AgentFailedError,
    ApiError,
    AuthError,
    Client,
    ConfigError,
    NotFoundError,
    Partial,
    Progress,
    Skipped,
    TaskEvent,
    TaskFailedError,
    TransportError,
    api,
)


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Stream:
    """Server-sent events, cut in awkward places; broken off unless it `ends`."""

    entries: list[tuple[str, Any]]
    ends: bool

    def pieces(self) -> Iterator[bytes]:
        text = ": keep-alive\n\n"
        for cursor, data in self.entries:
            text += (f"id: {cursor}\n" if cursor else "") + "event: x\n"
            text += f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
        if not self.ends:
            text += 'id: 99\ndata: {"cut":'
        whole = text.encode()
        yield from (whole[at : at + 61] for at in range(0, len(whole), 61))


TASK: api.TaskView = {
    "id": "tsk_1",
    "agent": "a",
    "capability": "c",
    "state": "queued",
    "cancel": "none",
    "attempt": 0,
    "caller": "tests",
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}

INSTANCE: api.RegistryEntry = {
    "agent_name": "a",
    "instance_uuid": "u1",
    "capabilities": [
        {"name": "x", "version": "", "description": "", "max_concurrency": 0, "idempotent": True}
    ],
    "labels": {"zone": "z"},
    "sdk": {"name": "s", "version": "1", "language": "l"},
    "lease_epoch": 1,
    "state": "connected",
    "connected_at": "2026-01-01T00:00:00Z",
    "lease_until": "2026-01-01T00:00:00Z",
    "in_flight": 0,
    "credit": 4,
    "unresolved_cancels": 0,
}


def changed(cursor: int, state: str) -> tuple[str, Any]:
    task = {**TASK, "state": state}
    event = {"cursor": cursor, "at": TASK["updated_at"], "kind": state, "task": task}
    return str(cursor), {"type": "event", "event": event}


@dataclass
class Script:
    """Answers in order; what was asked is noted."""

    answers: list[tuple[int, Any]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    #: Set when a caller has gone while it waited for an answer of `None`.
    caller_left: threading.Event = field(default_factory=threading.Event)
    waiting: threading.Event = field(default_factory=threading.Event)
    url: str = ""


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): text for name, text in self.headers.items()}
            body = self.rfile.read(length)
            script.seen.append(Seen(self.command, self.path, headers, body))
            status, document = script.answers.pop(0)
            if document is None:
                script.waiting.set()
                # Ends when the caller closes its side.
                assert self.connection.recv(1) == b""
                script.caller_left.set()
                return
            if isinstance(document, Stream):
                self.stream(document)
                return
            data = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET
        do_PUT = do_GET

        def stream(self, stream: Stream) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in stream.pieces():
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            if stream.ends:
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield script
    server.shutdown()
    server.server_close()


def client_of(script: Script) -> Client:
    return Client(script.url, api_key="plx_key")


async def test_invoke_sends_the_input_and_reads_the_result(script: Script) -> None:
    answer: api.InvokeResponse = {
        "task_id": "tsk_1",
        "value": {"ä": [1, None]},
        "confidence": {"value_ppm": 500_000, "source": "model"},
        "evidence": [{"kind": "note", "summary": "s", "detail": {"n": 1}}],
        "usage": {"input_tokens": 3, "output_tokens": 0, "cost_micro_minor": 0, "currency": ""},
    }
    script.answers.append((200, answer))
    trace = {"traceparent": "00-1", "other": "not sent"}
    call = client_of(script).invoke
    result = await call("my agent/ä", "classify", {"text": "é"}, deadline=1.5, trace=trace)
    assert (result.task_id, result.value) == ("tsk_1", {"ä": [1, None]})
    assert (result.confidence, result.confidence_source) == (0.5, "model")
    assert [(item.kind, item.detail) for item in result.evidence] == [("note", {"n": 1})]
    assert result.usage is not None and result.usage.input_tokens == 3
    seen = script.seen[0]
    assert (seen.method, seen.path) == ("POST", "/api/agents/my%20agent%2F%C3%A4/invoke")
    assert seen.headers["authorization"] == "Bearer plx_key"
    assert seen.headers["traceparent"] == "00-1"
    assert "idempotency-key" not in seen.headers and "other" not in seen.headers
    assert json.loads(seen.body) == {
        "capability": "classify",
        "input": {"text": "é"},
        "deadline_ms": 1500,
    }


async def test_a_value_that_is_too_large_to_come_along_is_fetched(script: Script) -> None:
    blob: api.BlobView = {"digest": "sha256:1", "size_bytes": 3, "media_type": "application/json"}
    script.answers += [(200, {"task_id": "tsk_1", "blob": blob}), (200, [1, 2])]
    assert (await client_of(script).invoke("a", "c")).value == [1, 2]
    assert script.seen[1].path == "/api/tasks/tsk_1/blob"


async def test_a_streamed_call_tells_progress_and_partials_before_its_answer(
    script: Script,
) -> None:
    begin = [
        ("", {"type": "progress", "progress": {"ppm": 500_000, "message": "half"}}),
        ("", {"type": "partial", "partial": {"seq": 1, "chunk": "ž"}}),
    ]
    problem = {"code": "agent_failed", "status": 502, "detail": "no", "agent_code": "empty"}
    script.answers += [
        (
            200,
            Stream(
                [*begin, ("", {"type": "answer", "answer": {"task_id": "t", "value": 1}})], True
            ),
        ),
        (200, Stream([("", {"type": "problem", "problem": problem})], True)),
    ]
    client = client_of(script)
    told = [update async for update in client.stream("a", "c")]
    assert told[:2] == [Progress(0.5, "half"), Partial(1, "ž")]
    assert getattr(told[2], "value", None) == 1
    assert script.seen[0].headers["accept"].startswith("text/event-stream")
    with pytest.raises(TaskFailedError) as failed:
        [update async for update in client.stream("a", "c")]
    assert (failed.value.agent_code, failed.value.status) == ("empty", 502)


async def test_problems_become_typed_errors(script: Script) -> None:
    script.answers += [
        (404, {"code": "not_found", "detail": "no agent 'x'", "request_id": "req_1"}),
        (403, {"code": "forbidden", "detail": "needs scope invoke"}),
        (422, {"code": "agent_failed", "detail": "boom", "agent_code": "bad", "retryable": True}),
        (502, b"<html>Bad gateway</html>"),
        (200, b"<html>"),
    ]
    client = client_of(script)
    with pytest.raises(NotFoundError) as not_found:
        await client.invoke("x", "y")
    assert (not_found.value.code, not_found.value.request_id) == ("not_found", "req_1")
    assert str(not_found.value) == "not_found: no agent 'x'"
    with pytest.raises(AuthError, match="needs scope invoke"):
        await client.invoke("x", "y")
    with pytest.raises(TaskFailedError) as failed:
        await client.invoke("x", "y")
    assert (failed.value.agent_code, failed.value.retryable) == ("bad", True)
    with pytest.raises(ApiError, match="http_502: <html>Bad gateway"):
        await client.invoke("x", "y")
    with pytest.raises(TransportError, match="not JSON"):
        await client.invoke("x", "y")


async def test_a_durable_task_is_submitted_and_waited_for_through_a_broken_stream(
    script: Script,
) -> None:
    outcome: api.TaskOutcome = {"answer": {"task_id": "tsk_1", "value": 7}}
    script.answers += [
        (202, TASK),
        (200, TASK),
        (200, Stream([], False)),
        (200, Stream([changed(5, "running")], False)),
        (200, Stream([changed(8, "succeeded")], True)),
        (200, {**TASK, "state": "succeeded", "attempt": 2, "outcome": outcome}),
    ]
    client = client_of(script)
    record = await client.submit("a", "b", 1, idempotency_key="once")
    assert (record.id, record.state, record.done) == ("tsk_1", "queued", False)
    assert script.seen[0].headers["idempotency-key"] == "once"
    assert script.seen[0].headers["prefer"] == "respond-async"
    done = await client.tasks.wait("tsk_1", timeout=30)
    assert (done.result().value, done.attempt) == (7, 2)
    after = [seen.headers.get("last-event-id") for seen in script.seen[2:5]]
    assert after == [None, None, "5"]


async def test_the_events_of_a_task_are_told_and_a_refusal_within_them_is_raised(
    script: Script,
) -> None:
    problem = {"code": "credential_expired", "status": 401, "detail": "expired"}
    script.answers += [
        (200, Stream([changed(1, "queued"), changed(2, "lost")], True)),
        (200, Stream([changed(1, "queued"), ("", {"type": "problem", "problem": problem})], True)),
    ]
    client = client_of(script)
    told = [event async for event in client.tasks.events("tsk_1")]
    assert [(event.cursor, event.kind, event.task.done) for event in told] == [
        (1, "queued", False),
        (2, "lost", True),
    ]
    assert told[0].at.year == 2026
    with pytest.raises(AuthError, match="expired"):
        [event async for event in client.tasks.events("tsk_1")]


async def test_a_watcher_of_a_task_hears_its_signs_of_life(script: Script) -> None:
    entries = [
        changed(1, "dispatched"),
        ("", {"type": "progress", "progress": {"ppm": 500_000, "message": "half"}}),
        ("", {"type": "progress", "progress": {"message": "on it"}}),
        ("", {"type": "partial", "partial": {"seq": 1, "chunk": "ü"}}),
        ("", {"type": "skipped", "skipped": 7}),
        ("", {"type": "news of a newer server"}),
        changed(2, "succeeded"),
    ]
    script.answers += [(200, Stream(entries, True)), (200, Stream(entries, True))]
    client = client_of(script)
    told = [news async for news in client.tasks.watch("tsk_1")]
    assert told[1:-1] == [
        Progress(0.5, "half"),
        Progress(None, "on it"),
        Partial(1, "ü"),
        Skipped(7),
    ]
    assert [news.kind for news in told if isinstance(news, TaskEvent)] == [
        "dispatched",
        "succeeded",
    ]
    alone = [event.kind async for event in client.tasks.events("tsk_1")]
    assert alone == ["dispatched", "succeeded"]


async def test_a_task_that_failed_says_why(script: Script) -> None:
    outcome: api.TaskOutcome = {
        "problem": {
            "code": "agent_failed",
            "message": "m",
            "retryable": True,
            "agent_code": "bad",
        }
    }
    script.answers += [
        (202, {**TASK, "cancel": "requested"}),
        (200, {**TASK, "state": "failed", "outcome": outcome}),
        (200, {**TASK, "state": "lost"}),
    ]
    client = client_of(script)
    assert (await client.tasks.cancel("tsk_1", "enough")).cancel == "requested"
    assert (script.seen[0].path, json.loads(script.seen[0].body)) == (
        "/api/tasks/tsk_1/cancel",
        {"reason": "enough"},
    )
    with pytest.raises(TaskFailedError) as failed:
        (await client.tasks.get("tsk_1")).result()
    assert (failed.value.code, failed.value.message) == ("agent_failed", "m")
    assert (failed.value.agent_code, failed.value.retryable) == ("bad", True)
    assert failed.value.task_id == "tsk_1"
    with pytest.raises(TaskFailedError, match="lost"):
        (await client.tasks.get("tsk_1")).result()


async def test_the_registry_is_read_page_by_page(script: Script) -> None:
    script.answers += [
        (200, {"items": [INSTANCE], "next_cursor": "c1"}),
        (200, {"items": [{**INSTANCE, "agent_name": "b"}], "next_cursor": None}),
    ]
    found = [entry async for entry in client_of(script).registry.list(capability="x")]
    assert [(entry.agent_name, entry.capabilities, entry.credit) for entry in found] == [
        ("a", ("x",), 4),
        ("b", ("x",), 4),
    ]
    assert script.seen[1].path == "/api/registry?capability=x&cursor=c1"


async def test_a_watched_registry_begins_anew_after_the_connection_broke(script: Script) -> None:
    events = [
        ("", {"type": "resync"}),
        ("", {"type": "upserted", "entry": INSTANCE}),
        ("", {"type": "synced"}),
        ("", {"type": "removed", "agent_name": "a", "instance_uuid": "u1"}),
    ]
    script.answers += [(200, Stream(events[:2], False)), (200, Stream(events, False))]
    told = []
    async for change in client_of(script).registry.watch():
        told.append((change.type, change.agent_name))
        if change.type == "removed":
            break
    once = [("resync", ""), ("upserted", "a")]
    assert told == [*once, *once, ("synced", ""), ("removed", "a")]


async def test_an_agent_is_waited_for_until_it_is_ready_or_has_failed_for_good(
    script: Script,
) -> None:
    status: dict[str, Any] = {
        "id": "agt_1",
        "agent": "a",
        "phase": "Ready",
        "message": "",
        "generation": 2,
        "observed_generation": 1,
        "replicas": {"desired": 1, "ready": 0, "updated": 0},
        "conditions": [],
    }
    unheard = {"kind": "HostConnected", "holds": False, "message": "not yet"}
    now = {**status, "observed_generation": 2}
    script.answers += [
        (200, status),
        (200, {**now, "phase": "Failed", "reason": "Unschedulable"}),
        # Carried over from before the server's start.
        (200, {**now, "conditions": [unheard]}),
        (200, {**now, "replicas": {"desired": 1, "ready": 0, "unconfirmed": 1, "updated": 1}}),
        (200, {**now, "replicas": {"desired": 1, "ready": 1, "updated": 1}}),
        (200, {**now, "phase": "Failed", "reason": "CrashLoop", "message": "exit code 3"}),
    ]
    client = client_of(script)
    assert (await client.agents.until_ready("a")).ready == 1
    with pytest.raises(AgentFailedError, match=r"a failed: Failed \(CrashLoop\): exit code 3"):
        await client.agents.until_ready("a")


async def test_a_deploy_uploads_the_folder_and_always_the_same_bytes(
    script: Script, tmp_path: Path
) -> None:
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "lib.py").write_text("x = 1\n", encoding="utf-8")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref", encoding="utf-8")
    (tmp_path / "main.py").write_text("print('ü')\n", encoding="utf-8")
    (tmp_path / "link").symlink_to("main.py")
    (tmp_path / "run").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "run").chmod(0o700)
    (tmp_path / ".env").write_text("SECRET=1\n", encoding="utf-8")
    answer = {
        "agent": {"id": "agt_1", "name": "n", "generation": 3},
        "revision": {"id": "rev_1", "number": 2},
        "status_url": "/s",
        "changed": True,
    }
    script.answers += [(202, answer), (202, answer)]
    client = client_of(script)
    deployment = await client.deploy(tmp_path, {"name": "n", "stop_grace_ms": 500})
    assert (deployment.agent, deployment.revision, deployment.generation) == ("n", 2, 3)
    os.utime(tmp_path / "main.py", (1, 1))
    await client.deploy(tmp_path, {"name": "n"})
    first, second = (parts_of(seen) for seen in script.seen)
    assert list(first) == ["spec", "source"]
    assert json.loads(first["spec"]) == {"name": "n", "stop_grace_ms": 500}
    assert first["source"] == second["source"]
    with tarfile.open(fileobj=BytesIO(first["source"])) as tar:
        members = {member.name: member.mode for member in tar}
        assert members == {
            "link": 0o755,
            "main.py": 0o644,
            "run": 0o755,
            "vendor": 0o755,
            "vendor/lib.py": 0o644,
        }


async def test_what_must_not_be_uploaded_is_refused(script: Script, tmp_path: Path) -> None:
    (tmp_path / "stolen").symlink_to("../key")
    with pytest.raises(ConfigError, match="leads out"):
        await client_of(script).deploy(tmp_path, {"name": "n"})
    (tmp_path / "stolen").unlink()
    (tmp_path / ".parallaxignore").write_text("secrets/\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="parallax deploy"):
        await client_of(script).deploy(tmp_path, {"name": "n"})
    assert script.seen == []


def parts_of(seen: Seen) -> dict[str, bytes]:
    head = f"Content-Type: {seen.headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + seen.body)
    parts = {}
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        parts[str(part.get_param("name", header="content-disposition"))] = content
    return parts


async def test_a_cancelled_call_hangs_up(script: Script) -> None:
    script.answers.append((200, None))
    call = asyncio.ensure_future(client_of(script).invoke("a", "b"))
    await asyncio.to_thread(script.waiting.wait, 15)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(script.caller_left.wait, 15)


async def test_a_server_that_is_not_there_is_named(script: Script) -> None:
    with pytest.raises(TransportError, match=r"POST /api/agents/a/invoke at 127\.0\.0\.1:1:"):
        await Client("http://127.0.0.1:1", api_key="k").invoke("a", "b")


def test_a_client_without_settings_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("PARALLAX_URL", "PARALLAX_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="PARALLAX_URL"):
        Client()
    monkeypatch.setenv("PARALLAX_URL", "http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="PARALLAX_API_KEY_FILE"):
        Client()
    monkeypatch.setenv("PARALLAX_API_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="cannot be read"):
        Client()
