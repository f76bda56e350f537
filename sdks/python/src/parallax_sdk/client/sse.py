"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .problem import TransportError

#: The largest entry is an inline answer with its evidence; this bounds what a
#: broken server can make us keep.
MAX_EVENT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class ServerEvent:
    """One event whose data is a JSON object."""

    #: Where to go on after it: `Last-Event-ID`. Empty where the server gave none.
    id: str
    data: dict[str, Any]


@dataclass
class EventParser:
    """Turns bytes, cut anywhere, into events. What a broken stream leaves is no event."""

    _rest: bytes = b""
    _id: str = ""
    _data: list[bytes] = field(default_factory=list)

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise TransportError(f"an event is longer than {MAX_EVENT_BYTES} bytes")
        for line in lines:
            event = self._line(line.removesuffix(b"\r"))
            if event is not None:
                yield event

    def _line(self, line: bytes) -> ServerEvent | None:
        if not line:
            data, self._data = b"\n".join(self._data), []
            return ServerEvent(self._id, _object(data)) if data else None
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"id":
            self._id = value.decode("utf-8", errors="replace")
        # Comments are signs of life; `event` repeats the `type` within the data.
        return None


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise TransportError(f"an event is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise TransportError("an event is no JSON object")
    return document
