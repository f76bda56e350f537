"""Values that are too large for a frame."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import grpc
import grpc.aio

from .._generated import blobs_pb2 as blobs
from .._generated import common_pb2 as common
from ..errors import TaskError
from .channel import WRITE_RACE_DETAILS, Services
from .link import Link

#: The largest chunk that BlobService takes.
CHUNK_BYTES = 64 * 1024
#: Attempts on a stream that stays up. A new stream starts a new count.
ATTEMPTS = 5
#: Hashing and parsing more than this would hold up the event loop noticeably.
OFFLOAD_BYTES = 256 * 1024

_TRANSIENT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)

T = TypeVar("T")

log = logging.getLogger("parallax_sdk")


async def digest_of(data: bytes) -> str:
    """`sha256:` and the hexadecimal digest."""
    if len(data) > OFFLOAD_BYTES:
        return await asyncio.to_thread(_digest, data)
    return _digest(data)


async def put(link: Link, ref: common.TaskRef, data: bytes, media_type: str) -> common.BlobRef:
    """Stores the bytes and names them. Survives reconnects.

    Raises TaskError `result_too_large` above the server's limit, and
    `result_upload_failed` when the server refuses.
    """
    if len(data) > link.limits.max_blob:
        raise TaskError(
            "result_too_large",
            f"the result has {len(data)} bytes; the server takes at most {link.limits.max_blob}",
        )
    header = blobs.PutBlobHeader(
        ref=ref, digest=await digest_of(data), size_bytes=len(data), media_type=media_type
    )
    retry = _Retry(link, "result_upload_failed", "the result could not be stored")
    while True:
        services = (await link.live()).services
        try:
            return await _attempt(services.put_blob(_parts(header, data)))
        except (grpc.aio.AioRpcError, _ChannelClosed) as error:
            await retry.after(services, error)


async def get(link: Link, ref: common.TaskRef, blob: common.BlobRef) -> bytes:
    """Fetches a blob, continuing where a broken attempt ended, and checks its digest.

    Raises TaskError `input_unavailable`.
    """
    if blob.size_bytes > link.limits.max_blob:
        raise TaskError("input_unavailable", f"the input claims {blob.size_bytes} bytes")
    data = bytearray()
    retry = _Retry(link, "input_unavailable", "the input could not be fetched")
    while True:
        services = (await link.live()).services
        request = blobs.GetBlobRequest(ref=ref, digest=blob.digest, offset=len(data))
        try:
            await _attempt(_read_into(data, services, request, blob))
            break
        except (grpc.aio.AioRpcError, _ChannelClosed) as error:
            await retry.after(services, error)
    content = bytes(data)
    if len(content) != blob.size_bytes or await digest_of(content) != blob.digest:
        raise _damaged(blob, len(content))
    return content


class _ChannelClosed(Exception):
    """The stream ended, and its channel with it, during the call."""


async def _attempt(call: Coroutine[Any, Any, T]) -> T:
    """Awaits a call in a task of its own.

    Closing a channel ends its calls with CancelledError, which must not be
    taken for a cancellation of the task whose value is moved.
    """
    attempt = asyncio.ensure_future(call)
    try:
        await asyncio.wait({attempt})
    except asyncio.CancelledError:
        attempt.cancel()
        raise
    if attempt.cancelled():
        raise _ChannelClosed
    try:
        return attempt.result()
    except grpc.aio.UsageError as error:
        raise _ChannelClosed from error


async def _read_into(
    data: bytearray, services: Services, request: blobs.GetBlobRequest, blob: common.BlobRef
) -> None:
    async for chunk in services.get_blob(request):
        data += chunk.data
        if len(data) > blob.size_bytes:
            raise _damaged(blob, len(data))


class _Retry:
    """Decides whether a failed call is tried again."""

    def __init__(self, link: Link, code: str, what: str) -> None:
        self._link = link
        self._code = code
        self._what = what
        self._left = ATTEMPTS
        self._services: Services | None = None

    async def after(self, services: Services, error: grpc.aio.AioRpcError | _ChannelClosed) -> None:
        """Waits for the moment to try again; TaskError when there is none."""
        if services is not self._services:
            self._services = services
            self._left = ATTEMPTS
        self._left -= 1
        transient, reason = True, "the connection ended"
        if isinstance(error, grpc.aio.AioRpcError):
            transient = error.code() in _TRANSIENT or error.details() == WRITE_RACE_DETAILS
            reason = f"{error.code().name}: {error.details()}"
        if not transient or self._left <= 0:
            raise TaskError(self._code, f"{self._what}: {reason}", retryable=transient) from error
        log.warning("%s yet (%s); trying again", self._what, reason)
        await self._link.gone(services)


async def _parts(header: blobs.PutBlobHeader, data: bytes) -> AsyncIterator[blobs.PutBlobRequest]:
    yield blobs.PutBlobRequest(header=header)
    for at in range(0, len(data), CHUNK_BYTES):
        yield blobs.PutBlobRequest(chunk=data[at : at + CHUNK_BYTES])


def _damaged(blob: common.BlobRef, size: int) -> TaskError:
    return TaskError(
        "input_unavailable",
        f"the input does not match {blob.digest} ({blob.size_bytes} bytes): got {size} bytes",
        retryable=True,
    )


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
