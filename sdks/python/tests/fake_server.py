"""A real gRPC server whose every frame the test decides."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from parallax_sdk._generated import agents_pb2 as agents
from parallax_sdk._generated import blobs_pb2 as blobs
from parallax_sdk._generated import common_pb2 as common
from parallax_sdk.json_value import encode

#: No wait of a test is longer, in seconds; none is expected to come near.
PATIENCE_S = 15.0

#: Frames that come by the clock, which tests ask for by name or not at all.
CLOCKWORK = ("heartbeat", "pong")

_END = object()


class Hangup(Exception):
    """Ends a stream with a status."""

    def __init__(self, code: grpc.StatusCode, details: str, retry_after_ms: int | None) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.retry_after_ms = retry_after_ms


class Peer:
    """One stream of an agent, held by the test."""

    def __init__(self, token: str) -> None:
        self.token = token
        self._up: asyncio.Queue[Any] = asyncio.Queue()
        self.down: asyncio.Queue[Any] = asyncio.Queue()
        self._early: deque[agents.AgentUp] = deque()

    async def take(self, kind: str) -> Any:
        """The next frame of this kind; the next frame of another kind is an error."""
        frame = await self._any()
        while frame.WhichOneof("frame") != kind:
            found = frame.WhichOneof("frame")
            if found not in CLOCKWORK:
                raise AssertionError(f"expected {kind}, got {found}: {frame}")
            frame = await self._any()
        return getattr(frame, kind)

    async def skip_to(self, kind: str) -> Any:
        """The next frame of this kind, whatever comes before it."""
        while True:
            frame = await self._any()
            if frame.WhichOneof("frame") == kind:
                return getattr(frame, kind)

    async def is_silent(self, but_for: str = "") -> bool:
        """Whether no frame, except of the kind `but_for`, is ahead of a ping's answer."""
        self.send(ping=agents.Ping(nonce=99))
        while True:
            frame = await self._next()
            kind = frame.WhichOneof("frame")
            if kind == "pong":
                return not self._early
            if kind not in (*CLOCKWORK, but_for):
                self._early.append(frame)

    async def ended(self) -> None:
        """Waits until the agent has left the stream."""
        while await asyncio.wait_for(self._up.get(), PATIENCE_S) is not _END:
            pass

    def send(self, **frame: Any) -> None:
        self.down.put_nowait(agents.AgentDown(**frame))

    def welcome(
        self, verdicts: list[agents.Verdict] | None = None, ttl_ms: int = 60_000, **limits: int
    ) -> None:
        wanted = {
            "max_frame_bytes": 1 << 20,
            "max_inline_bytes": 256 << 10,
            "max_blob_bytes": 64 << 20,
            "partial_window_bytes": 64 << 10,
            "max_credit": 100,
            **limits,
        }
        self.send(
            welcome=agents.Welcome(
                session_id="con_1",
                lease_epoch=7,
                ttl_ms=ttl_ms,
                proto_version=1,
                limits=agents.Limits(**wanted),
                verdicts=verdicts or [],
            )
        )

    def task(self, task_id: str, capability: str, value: Any = None, **fields: Any) -> None:
        ref = common.TaskRef(task_id=task_id, attempt=fields.pop("attempt", 1))
        payload = fields.pop("input", None) or common.Payload(json=encode(value))
        self.send(task=agents.Task(ref=ref, capability=capability, input=payload, **fields))

    def goaway(self, reason: agents.Goaway.Reason, **fields: Any) -> None:
        self.send(goaway=agents.Goaway(reason=reason, **fields))

    def hang_up(
        self,
        code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE,
        details: str = "gone",
        retry_after_ms: int | None = None,
    ) -> None:
        self.down.put_nowait(Hangup(code, details, retry_after_ms))

    def feed(self, frame: agents.AgentUp | None) -> None:
        self._up.put_nowait(_END if frame is None else frame)

    async def _any(self) -> agents.AgentUp:
        return self._early.popleft() if self._early else await self._next()

    async def _next(self) -> agents.AgentUp:
        frame = await asyncio.wait_for(self._up.get(), PATIENCE_S)
        if frame is _END:
            raise AssertionError("the agent left the stream")
        assert isinstance(frame, agents.AgentUp)
        return frame


class FakeServer:
    """`async with FakeServer(tmp_path) as server`."""

    def __init__(self, folder: Path) -> None:
        self.blobs: dict[str, bytes] = {}
        self.put_headers: list[blobs.PutBlobHeader] = []
        #: Statuses with which the next calls of BlobService fail.
        self.blob_failures: deque[grpc.StatusCode] = deque()
        #: Statuses with which the next sessions are refused before their Hello is read.
        self.refusals: deque[grpc.StatusCode] = deque()
        self.token_file = folder / "token"
        self.token_file.write_text("  secret-1\n", encoding="ascii")
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._server = grpc.aio.server()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> FakeServer:
        self._server.add_generic_rpc_handlers((self._agent_service(), self._blob_service()))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    async def connected(self) -> tuple[Peer, agents.Hello]:
        """The next stream and its Hello."""
        peer = await asyncio.wait_for(self._peers.get(), PATIENCE_S)
        return peer, await peer.take("hello")

    def store(self, data: bytes) -> common.BlobRef:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return common.BlobRef(digest=digest, size_bytes=len(data), media_type="application/json")

    def _agent_service(self) -> Any:
        handler = grpc.stream_stream_rpc_method_handler(
            self._session,
            request_deserializer=agents.AgentUp.FromString,
            response_serializer=agents.AgentDown.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(
            "parallax.v1.AgentService", {"Session": handler}
        )

    def _blob_service(self) -> Any:
        put = grpc.stream_unary_rpc_method_handler(
            self._put,
            request_deserializer=blobs.PutBlobRequest.FromString,
            response_serializer=common.BlobRef.SerializeToString,
        )
        get = grpc.unary_stream_rpc_method_handler(
            self._get,
            request_deserializer=blobs.GetBlobRequest.FromString,
            response_serializer=blobs.BlobChunk.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(
            "parallax.v1.BlobService", {"Put": put, "Get": get}
        )

    async def _session(self, requests: Any, context: Any) -> AsyncIterator[agents.AgentDown]:
        if self.refusals:
            await context.abort(self.refusals.popleft(), "not today")
        peer = Peer(dict(context.invocation_metadata()).get("authorization", ""))
        self._peers.put_nowait(peer)

        async def pump() -> None:
            try:
                async for frame in requests:
                    peer.feed(frame)
            finally:
                peer.feed(None)

        pumping = asyncio.ensure_future(pump())
        try:
            while True:
                frame = await peer.down.get()
                if isinstance(frame, Hangup):
                    if frame.retry_after_ms is not None:
                        context.set_trailing_metadata(
                            (("retry-after-ms", str(frame.retry_after_ms)),)
                        )
                    await context.abort(frame.code, frame.details)
                yield frame
        finally:
            pumping.cancel()

    async def _put(self, requests: Any, context: Any) -> common.BlobRef:
        await self._maybe_fail(context)
        header: blobs.PutBlobHeader | None = None
        data = b""
        async for part in requests:
            if part.WhichOneof("part") == "header":
                assert header is None, "one header, and first"
                header = part.header
            else:
                assert header is not None, "the header comes first"
                assert len(part.chunk) <= 64 * 1024
                data += part.chunk
        assert header is not None
        stored = self.store(data)
        assert (stored.digest, stored.size_bytes) == (header.digest, header.size_bytes)
        self.put_headers.append(header)
        return stored

    async def _get(
        self, request: blobs.GetBlobRequest, context: Any
    ) -> AsyncIterator[blobs.BlobChunk]:
        data = self.blobs[request.digest][request.offset :]
        if self.blob_failures:
            # Half of it, so that the agent has something to continue from.
            yield blobs.BlobChunk(data=data[: len(data) // 2])
            await self._maybe_fail(context)
        for at in range(0, len(data), 64 * 1024):
            yield blobs.BlobChunk(data=data[at : at + 64 * 1024])

    async def _maybe_fail(self, context: Any) -> None:
        if self.blob_failures:
            await context.abort(self.blob_failures.popleft(), "as the test wants")


def ref(task_id: str, attempt: int = 1) -> common.TaskRef:
    return common.TaskRef(task_id=task_id, attempt=attempt)
