"""The client for programs that deploy and call agents."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from ..config import client_config
from ..json_value import JsonValue, encode
from .archive import source_archive
from .http import Request, Transport
from .models import Deployment, InvokeResult, RegistryEntry, TaskRecord
from .problem import TransportError

#: An attached call without a deadline of its own waits this long, in seconds.
DEFAULT_INVOKE_TIMEOUT_S = 3600.0
#: Beyond a deadline the server answers that it has passed; this is for the way. Seconds.
DEADLINE_SLACK_S = 10.0
#: An upload, including what the server checks before it answers, in seconds.
DEPLOY_TIMEOUT_S = 600.0
#: Pauses between two looks at a task that is waited for, in seconds.
FIRST_POLL_S = 0.05
LAST_POLL_S = 2.0
#: Bytes of an upload that are read at a time.
READ_BYTES = 256 * 1024


class Client:
    """Calls the HTTP API of one server.

        client = Client()  # PARALLAX_URL, PARALLAX_API_KEY_FILE, PARALLAX_CA_FILE
        result = await client.invoke("document-classifier", "classify", {"text": "…"})

    It holds no connection and needs no closing.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        api_key_file: str | Path | None = None,
        ca_file: str | Path | None = None,
    ) -> None:
        config = client_config(url=url, api_key=api_key, api_key_file=api_key_file, ca_file=ca_file)
        self._api = _Api(Transport(config.endpoint, config.api_key, config.ca_file))
        self.tasks = Tasks(self._api)
        self.registry = Registry(self._api)

    async def deploy(
        self, source: str | os.PathLike[str], spec: Mapping[str, Any] | None = None
    ) -> Deployment:
        """Uploads a folder, or a tar.gz, and answers once the server accepted it.

        Without a `spec` the `parallax.toml` in the source counts.
        """
        with contextlib.ExitStack() as held:
            # In a thread, because a large folder takes a while to pack.
            archive = await asyncio.to_thread(held.enter_context, source_archive(source))
            document = await self._api.send(_deploy_request(archive, spec))
        return Deployment.of(document)

    async def invoke(
        self,
        agent: str,
        capability: str,
        value: JsonValue = None,
        *,
        deadline: float | None = None,
    ) -> InvokeResult:
        """Calls an agent and waits for its answer; `deadline` is in seconds.

        Attached: cancelling this call cancels the task. Raises TaskFailedError
        when the task ends without a result.
        """
        timeout = DEFAULT_INVOKE_TIMEOUT_S if deadline is None else deadline + DEADLINE_SLACK_S
        document = await self._api.call(
            "POST",
            f"/api/agents/{quote(agent, safe='')}/invoke",
            _invocation(capability, value, deadline),
            timeout=timeout,
        )
        return InvokeResult.of(str(document.get("task_id", "")), document)

    async def submit(
        self,
        agent: str,
        capability: str,
        value: JsonValue = None,
        *,
        deadline: float | None = None,
        idempotency_key: str | None = None,
    ) -> TaskRecord:
        """Hands over a durable task: once this returns it survives caller and server.

        The same key with the same request names the same task, so that a submit
        whose answer was lost may be repeated. Without a key it gets one of its own.
        """
        document = await self._api.call(
            "POST",
            f"/api/agents/{quote(agent, safe='')}/invoke",
            _invocation(capability, value, deadline),
            headers={
                "Idempotency-Key": idempotency_key or secrets.token_urlsafe(24),
                "Prefer": "respond-async",
            },
        )
        return TaskRecord.of(document)


class Tasks:
    """Durable tasks: `client.tasks`."""

    def __init__(self, api: _Api) -> None:
        self._api = api

    async def get(self, task_id: str) -> TaskRecord:
        return TaskRecord.of(await self._api.call("GET", _task_path(task_id)))

    async def cancel(self, task_id: str, reason: str = "") -> TaskRecord:
        """Asks for the end of a task; whether it stops shows in its state."""
        path = f"{_task_path(task_id)}/cancel"
        return TaskRecord.of(await self._api.call("POST", path, {"reason": reason}))

    async def wait(self, task_id: str, timeout: float | None = None) -> TaskRecord:
        """Waits until the task has ended; asyncio.TimeoutError after `timeout` seconds.

        A server that is away for a moment does not end the wait.
        """
        return await asyncio.wait_for(self._until_done(task_id), timeout)

    async def _until_done(self, task_id: str) -> TaskRecord:
        pause = FIRST_POLL_S
        while True:
            try:
                record = await self.get(task_id)
                if record.done:
                    return record
            except TransportError:
                # The task is durable: it is still there when the server is back.
                pause = LAST_POLL_S
            await asyncio.sleep(pause)
            pause = min(LAST_POLL_S, pause * 2)


class Registry:
    """Who is connected now: `client.registry`."""

    def __init__(self, api: _Api) -> None:
        self._api = api

    async def list(self, capability: str | None = None) -> AsyncIterator[RegistryEntry]:
        """Every connected instance, page by page."""
        cursor = ""
        while True:
            query = {"cursor": cursor, "capability": capability or ""}
            query = {name: text for name, text in query.items() if text}
            page = await self._api.call("GET", "/api/registry?" + urlencode(query))
            for item in page.get("items") or ():
                yield RegistryEntry.of(item)
            cursor = str(page.get("next_cursor") or "")
            if not cursor:
                return


class _Api:
    """JSON in, JSON out."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> dict[str, Any]:
        content = {"Content-Type": "application/json"} if body is not None else {}
        request = Request(
            method,
            path,
            headers={**content, **(headers or {})},
            body=None if body is None else encode(dict(body), "the request"),
            timeout=timeout,
        )
        return await self.send(request)

    async def send(self, request: Request) -> dict[str, Any]:
        return _object(await self._transport.send(request), request.path)


def _deploy_request(archive: Path, spec: Mapping[str, Any] | None) -> Request:
    boundary = secrets.token_hex(16)
    before = b""
    if spec is not None:
        before += _part(boundary, "spec", "application/json", "spec.json")
        before += encode(dict(spec), "the spec") + b"\r\n"
    before += _part(boundary, "source", "application/gzip", "source.tar.gz")
    after = f"\r\n--{boundary}--\r\n".encode("ascii")
    return Request(
        "POST",
        "/api/agents/deploy",
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        body=_stream(before, archive, after),
        length=len(before) + archive.stat().st_size + len(after),
        timeout=DEPLOY_TIMEOUT_S,
    )


def _invocation(capability: str, value: JsonValue, deadline: float | None) -> dict[str, Any]:
    body: dict[str, Any] = {"capability": capability, "input": value}
    if deadline is not None:
        if deadline <= 0:
            raise ValueError(f"deadline is {deadline} s: it must be positive")
        body["deadline_ms"] = max(1, round(deadline * 1000))
    return body


def _task_path(task_id: str) -> str:
    return f"/api/tasks/{quote(task_id, safe='')}"


def _part(boundary: str, name: str, media_type: str, filename: str) -> bytes:
    return (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        f"Content-Type: {media_type}\r\n\r\n"
    ).encode("ascii")


def _stream(before: bytes, archive: Path, after: bytes) -> Iterator[bytes]:
    yield before
    with archive.open("rb") as content:
        while data := content.read(READ_BYTES):
            yield data
    yield after


def _object(body: bytes, path: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise TransportError(f"{path}: the answer is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise TransportError(f"{path}: the answer is no JSON object")
    return document
