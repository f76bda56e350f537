"""Values inline or by name."""

from __future__ import annotations

import asyncio

from .._generated import common_pb2 as common
from ..json_value import JsonValue, decode
from . import blobs
from .link import Link

JSON_MEDIA_TYPE = "application/json"


async def fetch_value(link: Link, ref: common.TaskRef, payload: common.Payload) -> JsonValue:
    """The value of a payload that the server sent.

    Raises TaskError `invalid_input` or `input_unavailable`.
    """
    if payload.WhichOneof("content") != "blob":
        return decode(payload.json)
    data = await blobs.get(link, ref, payload.blob)
    return await asyncio.to_thread(decode, data)


async def store_value(
    link: Link, ref: common.TaskRef, data: bytes, *, as_blob: bool
) -> common.Payload:
    """The payload for encoded JSON; as a blob when it is too large for a frame.

    Raises TaskError `result_too_large` or `result_upload_failed`.
    """
    if not as_blob and len(data) <= link.limits.max_inline:
        return common.Payload(json=data)
    return common.Payload(blob=await blobs.put(link, ref, data, JSON_MEDIA_TYPE))
