"""The gRPC channel and the three calls that an agent makes on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from .._generated import agents_pb2 as agents
from .._generated import blobs_pb2 as blobs
from .._generated import common_pb2 as common
from ..config import Endpoint
from ..errors import ConfigError

if TYPE_CHECKING:
    SessionCall = grpc.aio.StreamStreamCall[agents.AgentUp, agents.AgentDown]
    GetCall = grpc.aio.UnaryStreamCall[blobs.GetBlobRequest, blobs.BlobChunk]

#: Frames may be 1 MiB; the rest is room for a server that raises its limit.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
#: A peer that vanished is noticed within 30 s even when no frame flows.
KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000
#: A whole blob has at most this long, in seconds: 64 MiB at 1 MiB/s, twice over.
BLOB_TIMEOUT_S = 120.0


#: What gRPC's Python puts in the place of the server's status when a write was
#: under way at the end of a call.
WRITE_RACE_DETAILS = "Internal error from Core"


@dataclass(frozen=True)
class CallStatus:
    """How a call ended."""

    code: grpc.StatusCode
    details: str
    trailers: Mapping[str, str | bytes]


class FirstStatus:
    """Remembers a call's first status.

    A write that was under way when the server ended the call replaces the
    server's status by an internal error, and a delay that the server asked for
    would be lost with it. The first one is there when the call is first done.
    """

    def __init__(self, call: SessionCall) -> None:
        self._call = call
        self._status: CallStatus | None = None
        call.add_done_callback(self._note)

    async def get(self) -> CallStatus:
        """Waits for the end of the call."""
        last = await self._ask()
        return self._status or last

    def _note(self, _call: object) -> None:
        if self._status is None:
            asking = self._ask()
            try:
                # A call that is done answers without waiting for anything.
                asking.send(None)
            except StopIteration as answer:
                self._status = answer.value
            finally:
                asking.close()

    async def _ask(self) -> CallStatus:
        return CallStatus(
            await self._call.code(),
            await self._call.details() or "",
            dict(await self._call.trailing_metadata() or ()),
        )


class Services:
    """One channel with the credential that was current when it was opened."""

    def __init__(self, endpoint: Endpoint, roots: bytes | None, token: str) -> None:
        if not token.isprintable():
            raise ConfigError("the token contains characters that no credential has")
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._channel = _open(endpoint, roots)

    def session(self) -> SessionCall:
        return self._channel.stream_stream(
            "/parallax.v1.AgentService/Session",
            request_serializer=agents.AgentUp.SerializeToString,
            response_deserializer=agents.AgentDown.FromString,
        )(None, metadata=self._metadata)

    async def put_blob(self, parts: AsyncIterator[blobs.PutBlobRequest]) -> common.BlobRef:
        stored: common.BlobRef = await self._channel.stream_unary(
            "/parallax.v1.BlobService/Put",
            request_serializer=blobs.PutBlobRequest.SerializeToString,
            response_deserializer=common.BlobRef.FromString,
        )(parts, metadata=self._metadata, timeout=BLOB_TIMEOUT_S)
        return stored

    def get_blob(self, request: blobs.GetBlobRequest) -> GetCall:
        return self._channel.unary_stream(
            "/parallax.v1.BlobService/Get",
            request_serializer=blobs.GetBlobRequest.SerializeToString,
            response_deserializer=blobs.BlobChunk.FromString,
        )(request, metadata=self._metadata, timeout=BLOB_TIMEOUT_S)

    async def close(self) -> None:
        await self._channel.close(None)


def _open(endpoint: Endpoint, roots: bytes | None) -> grpc.aio.Channel:
    options: list[tuple[str, int]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        # Every attempt is a channel of its own: the SDK's jitter decides when to
        # dial, not the back-off of a connection that gRPC shares and remembers.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
    ]
    if endpoint.loopback:
        options.append(("grpc.enable_http_proxy", 0))
    if not endpoint.tls:
        return grpc.aio.insecure_channel(endpoint.authority, options=options)
    credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    return grpc.aio.secure_channel(endpoint.authority, credentials, options=options)
