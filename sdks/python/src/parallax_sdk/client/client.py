"""The client for programs that deploy and call agents."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .._generated import api
from ..config import client_config
from ..json_value import JsonValue, encode
from .agents import Agents
from .archive import source_archive
from .http import Request, Transport
from .models import (
    Deployment,
    DeploySpec,
    InvokeResult,
    Partial,
    Progress,
    TaskRecord,
    sign_of_life,
)
from .problem import TransportError, problem_in
from .registry import Registry
from .tasks import Tasks, whole

#: An attached call without a deadline of its own waits this long, in seconds: the
#: server's default deadline is shorter.
DEFAULT_INVOKE_TIMEOUT_S = 86_400.0
#: Beyond a deadline the server answers that it has passed; this is for the way. Seconds.
DEADLINE_SLACK_S = 10.0
#: An upload, including what the server checks before it answers, in seconds.
DEPLOY_TIMEOUT_S = 600.0
#: Bytes of an upload that are read at a time.
READ_BYTES = 256 * 1024
#: What a call passes on of a trace.
TRACE_HEADERS = ("traceparent", "tracestate", "baggage")


class Client:
    """Calls the HTTP API of one server.

        client = Client()  # PARALLAX_URL, PARALLAX_API_KEY_FILE, PARALLAX_CA_FILE
        result = await client.invoke("document-classifier", "classify", {"text": "…"})

    It holds no connection and needs no closing. The key's file is read again at
    each request.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        api_key_file: str | Path | None = None,
        ca_file: str | Path | None = None,
    ) -> None:
        self._api = Transport(
            client_config(url=url, api_key=api_key, api_key_file=api_key_file, ca_file=ca_file)
        )
        self.agents = Agents(self._api)
        self.tasks = Tasks(self._api)
        self.registry = Registry(self._api)

    async def deploy(self, source: str | os.PathLike[str], spec: DeploySpec) -> Deployment:
        """Uploads a folder, or a tar.gz, and answers once the server has stored it.

        `client.agents.until_ready` waits for the rest. A `parallax.toml` in the
        source is not read: what it would say is the `spec`.
        """
        document: api.DeployResponse = await self._upload(source, spec, "")
        return Deployment.of(document)

    async def dry_run(self, source: str | os.PathLike[str], spec: DeploySpec) -> api.DryRun:
        """What `deploy` would do. Nothing is changed."""
        document: api.DryRun = await self._upload(source, spec, "?dry_run=true")
        return document

    async def invoke(
        self,
        agent: str,
        capability: str,
        value: JsonValue = None,
        *,
        deadline: float | None = None,
        context_id: str = "",
        trace: Mapping[str, str] | None = None,
    ) -> InvokeResult:
        """Calls an agent and waits for its answer; `deadline` is in seconds.

        Attached: cancelling this call cancels the task. Raises TaskFailedError
        when the task ends without a result. A handler that calls on passes its
        `ctx.trace`.
        """
        timeout = DEFAULT_INVOKE_TIMEOUT_S if deadline is None else deadline + DEADLINE_SLACK_S
        document: api.InvokeResponse = await self._api.call(
            "POST",
            _invoke_path(agent),
            _invocation(capability, value, deadline, context_id),
            headers=_trace_headers(trace),
            timeout=timeout,
        )
        return await whole(self._api, document)

    async def stream(
        self,
        agent: str,
        capability: str,
        value: JsonValue = None,
        *,
        deadline: float | None = None,
        context_id: str = "",
        trace: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Progress | Partial | InvokeResult]:
        """As `invoke`, and tells progress and partial results on the way; the result
        is the last. Closing the iterator before that cancels the task."""
        body = encode(_invocation(capability, value, deadline, context_id), "the request")
        headers = {"Content-Type": "application/json", **_trace_headers(trace)}
        request = Request("POST", _invoke_path(agent), headers, body)
        async with contextlib.aclosing(self._api.stream(request)) as events:
            async for event in events:
                problem = problem_in(event.data)
                if problem is not None:
                    raise problem
                if sign := sign_of_life(event.data):
                    yield sign
                elif answer := event.data.get("answer"):
                    yield await whole(self._api, answer)
                    return
        raise TransportError(f"calling {agent}: the stream ended without an answer")

    async def submit(
        self,
        agent: str,
        capability: str,
        value: JsonValue = None,
        *,
        deadline: float | None = None,
        context_id: str = "",
        idempotency_key: str | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> TaskRecord:
        """Hands over a durable task: once this returns it survives caller and server.

        The same key with the same request names the same task, so that a submit
        whose answer was lost may be repeated. Without a key it gets one of its own.
        """
        document: api.TaskView = await self._api.call(
            "POST",
            _invoke_path(agent),
            _invocation(capability, value, deadline, context_id),
            headers={
                "Idempotency-Key": idempotency_key or secrets.token_urlsafe(24),
                "Prefer": "respond-async",
                **_trace_headers(trace),
            },
        )
        return TaskRecord.of(document)

    async def _upload(self, source: str | os.PathLike[str], spec: DeploySpec, query: str) -> Any:
        with contextlib.ExitStack() as held:
            # In a thread, because a large folder takes a while to pack.
            archive = await asyncio.to_thread(held.enter_context, source_archive(source))
            return await self._api.send(_deploy_request(archive, spec, query))


def _deploy_request(archive: Path, spec: DeploySpec, query: str) -> Request:
    """The server checks the spec before it reads the source, so that is the order."""
    boundary = secrets.token_hex(16)
    before = _part(boundary, "spec", "application/json", "spec.json")
    before += encode(dict(spec), "the spec") + b"\r\n"
    before += _part(boundary, "source", "application/gzip", "source.tar.gz")
    after = f"\r\n--{boundary}--\r\n".encode("ascii")
    return Request(
        "POST",
        f"/api/agents/deploy{query}",
        headers={
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Idempotency-Key": secrets.token_urlsafe(24),
        },
        body=_stream(before, archive, after),
        length=len(before) + archive.stat().st_size + len(after),
        timeout=DEPLOY_TIMEOUT_S,
    )


def _invocation(
    capability: str, value: JsonValue, deadline: float | None, context_id: str
) -> dict[str, Any]:
    body: dict[str, Any] = {"capability": capability, "input": value}
    if deadline is not None:
        if deadline <= 0:
            raise ValueError(f"deadline is {deadline} s: it must be positive")
        body["deadline_ms"] = max(1, round(deadline * 1000))
    if context_id:
        body["context_id"] = context_id
    return body


def _trace_headers(trace: Mapping[str, str] | None) -> dict[str, str]:
    return {name: text for name in TRACE_HEADERS if (text := (trace or {}).get(name, ""))}


def _invoke_path(agent: str) -> str:
    return f"/api/agents/{quote(agent, safe='')}/invoke"


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
