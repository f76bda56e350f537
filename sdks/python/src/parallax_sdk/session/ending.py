"""Why a stream ended, and what follows from it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import grpc

from .._generated import agents_pb2 as agents
from .channel import CallStatus


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


def of_status(status: CallStatus, welcomed: bool) -> Ending:
    """What a gRPC status asks for. Once welcomed, no status is final."""
    name = status.code.name
    message = f"{name}: {status.details}" if status.details else name
    if status.code in _REFUSALS and not welcomed:
        return Ending(Next.REFUSED, message)
    return Ending(Next.RECONNECT, message, _seconds(status.trailers.get("retry-after-ms", "")))


def _seconds(milliseconds: str | bytes) -> float:
    if isinstance(milliseconds, bytes):
        milliseconds = milliseconds.decode("ascii", errors="replace")
    return int(milliseconds) / 1000 if milliseconds.isdecimal() else 0.0
