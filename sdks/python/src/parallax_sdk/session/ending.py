"""Why a stream ended, and what follows from it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import grpc

from .._generated import agents_pb2 as agents


class Next(enum.Enum):
    """What to do after a stream ended."""

    RECONNECT = enum.auto()
    #: A newer session of this instance exists.
    SUPERSEDED = enum.auto()
    #: Nothing is in flight and nothing more will come.
    DRAINED = enum.auto()
    #: The server has no use for this agent any more.
    REMOVED = enum.auto()
    #: The same Hello would be refused again.
    REFUSED = enum.auto()


@dataclass(frozen=True)
class Ending:
    """The end of one stream."""

    next: Next
    message: str
    #: The least wait before the next attempt, in seconds.
    delay: float = 0.0


_GOAWAY = {
    agents.Goaway.REASON_SUPERSEDED: Next.SUPERSEDED,
    agents.Goaway.REASON_DRAINED: Next.DRAINED,
    agents.Goaway.REASON_REMOVED: Next.REMOVED,
}

#: Statuses that judge the Hello itself, so that sending it again cannot help.
_REFUSALS = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
)


def of_goaway(goaway: agents.Goaway) -> Ending:
    """What a Goaway asks for."""
    word = agents.Goaway.Reason.Name(goaway.reason).removeprefix("REASON_").lower()
    message = f"{word}: {goaway.message}" if goaway.message else word
    following = _GOAWAY.get(goaway.reason, Next.RECONNECT)
    return Ending(following, message, goaway.reconnect_after_ms / 1000)


def of_status(
    code: grpc.StatusCode, details: str, retry_after_ms: str | bytes | None, welcomed: bool
) -> Ending:
    """What a gRPC status asks for. Once welcomed, no status is final."""
    message = f"{code.name}: {details}" if details else code.name
    if code in _REFUSALS and not welcomed:
        return Ending(Next.REFUSED, message)
    return Ending(Next.RECONNECT, message, _seconds(retry_after_ms))


def _seconds(retry_after_ms: str | bytes | None) -> float:
    text = retry_after_ms.decode("ascii", "replace") if isinstance(
        retry_after_ms, bytes
    ) else retry_after_ms
    return int(text) / 1000 if text and text.isdecimal() else 0.0
