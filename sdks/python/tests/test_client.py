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
    ApiError,
    AuthError,
    Client,
    ConfigError,
    NotFoundError,
    TaskFailedError,
    TransportError,
)


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


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
            data = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

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
    script.answers.append(
        (
            200,
            {
                "task_id": "tsk_1",
                "value": {"ä": [1, None]},
                "confidence": 0.5,
                "evidence": [{"kind": "note", "summary": "s", "detail": {"n": 1}}],
            },
        )
    )
    result = await client_of(script).invoke("my agent/ä", "classify", {"text": "é"}, deadline=1.5)
    assert (result.task_id, result.value, result.confidence) == ("tsk_1", {"ä": [1, None]}, 0.5)
    assert [(item.kind, item.detail) for item in result.evidence] == [("note", {"n": 1})]
    seen = script.seen[0]
    assert (seen.method, seen.path) == ("POST", "/api/agents/my%20agent%2F%C3%A4/invoke")
    assert seen.headers["authorization"] == "Bearer plx_key"
    assert "idempotency-key" not in seen.headers
    assert json.loads(seen.body) == {
        "capability": "classify",
        "input": {"text": "é"},
        "deadline_ms": 1500,
    }


async def test_problems_become_typed_errors(script: Script) -> None:
    script.answers += [
        (404, {"code": "not_found", "detail": "no agent 'x'", "request_id": "req_1"}),
        (403, {"code": "forbidden", "detail": "needs scope invoke"}),
        (422, {"code": "agent_failed", "detail": "boom", "agent_code": "bad", "retryable": True}),
        (502, b"<html>Bad gateway</html>"),
        (200, b"[]"),
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
    with pytest.raises(TransportError, match="no JSON object"):
        await client.invoke("x", "y")


async def test_a_durable_task_is_submitted_watched_and_cancelled(script: Script) -> None:
    script.answers += [
        (202, {"task_id": "tsk_1", "state": "queued"}),
        (200, {"id": "tsk_1", "state": "running"}),
        (200, {"id": "tsk_1", "state": "succeeded", "outcome": {"value": 7}}),
        (200, {"id": "tsk_2", "state": "running", "cancel": "requested"}),
        (
            200,
            {
                "id": "tsk_2",
                "state": "failed",
                "outcome": {"code": "agent_failed", "message": "m", "agent_code": "bad"},
            },
        ),
    ]
    client = client_of(script)
    record = await client.submit("a", "b", 1, idempotency_key="once")
    assert (record.id, record.state, record.done) == ("tsk_1", "queued", False)
    assert script.seen[0].headers["idempotency-key"] == "once"
    assert (await client.tasks.wait("tsk_1", timeout=30)).result().value == 7
    await client.tasks.cancel("tsk_2", "enough")
    assert (script.seen[3].path, json.loads(script.seen[3].body)) == (
        "/api/tasks/tsk_2/cancel",
        {"reason": "enough"},
    )
    with pytest.raises(TaskFailedError) as failed:
        (await client.tasks.get("tsk_2")).result()
    assert (failed.value.code, failed.value.message) == ("agent_failed", "m")
    assert failed.value.agent_code == "bad"


async def test_the_registry_is_read_page_by_page(script: Script) -> None:
    first = {"agent_name": "a", "instance_uuid": "u1", "capabilities": [{"name": "x"}]}
    script.answers += [
        (200, {"items": [first], "next_cursor": "c1"}),
        (200, {"items": [{"agent_name": "b", "instance_uuid": "u2", "state": "connected"}]}),
    ]
    found = [entry async for entry in client_of(script).registry.list(capability="x")]
    assert [(entry.agent_name, entry.capabilities) for entry in found] == [
        ("a", ("x",)),
        ("b", ()),
    ]
    assert script.seen[1].path == "/api/registry?cursor=c1&capability=x"


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
    answer = {"agent": {"id": "agt_1", "name": "n"}, "revision": "rev_1", "status_url": "/s"}
    script.answers += [(202, answer), (202, answer)]
    client = client_of(script)
    deployment = await client.deploy(tmp_path, {"name": "n"})
    assert (deployment.agent, deployment.revision) == ("n", "rev_1")
    os.utime(tmp_path / "main.py", (1, 1))
    await client.deploy(tmp_path)
    with_spec, without = (parts_of(seen) for seen in script.seen)
    assert json.loads(with_spec["spec"]) == {"name": "n"}
    assert "spec" not in without
    assert with_spec["source"] == without["source"]
    with tarfile.open(fileobj=BytesIO(with_spec["source"])) as tar:
        members = {member.name: member.mode for member in tar}
        assert members == {
            "link": 0o755,
            "main.py": 0o644,
            "run": 0o755,
            "vendor": 0o755,
            "vendor/lib.py": 0o644,
        }


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
