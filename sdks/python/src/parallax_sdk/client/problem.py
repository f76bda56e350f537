"""Errors of the HTTP API: RFC 9457 problem documents, by their stable `code`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ParallaxError

if TYPE_CHECKING:
    from .models import AgentStatus

#: Codes that judge a task, not the request: the server did its part.
TASK_CODES = frozenset(
    {"agent_failed", "agent_lost", "cancelled", "deadline_exceeded", "invalid_input"}
)


class TransportError(ParallaxError):
    """The server could not be reached, or the connection broke before its answer.

    Whether the request was carried out is then unknown.
    """


class ApiError(ParallaxError):
    """The server answered with a problem."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        #: The whole document.
        self.problem = problem
        #: A word of docs/reference/errors.md.
        self.code = str(problem.get("code") or f"http_{status}")
        # A task's outcome says `message` where a problem document says `detail`.
        words = (problem.get(name) for name in ("detail", "message", "title"))
        self.message = str(next((word for word in words if word), self.code))
        self.request_id = str(problem.get("request_id") or "")
        #: The task that this speaks of; empty where there is none.
        self.task_id = str(problem.get("task_id") or "")
        super().__init__(f"{self.code}: {self.message}")

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return bool(self.problem.get("retryable"))


class AuthError(ApiError):
    """401 or 403: the key is missing, unknown, expired, or lacks a scope."""


class NotFoundError(ApiError):
    """404: nothing of that kind and name exists in this tenant."""


class ConflictError(ApiError):
    """409: the present state does not allow this."""


class TaskFailedError(ApiError):
    """The task ended without a result."""

    @property
    def agent_code(self) -> str:
        """The agent's own word, where the agent failed the task."""
        return str(self.problem.get("agent_code") or "")


class AgentFailedError(ParallaxError):
    """An agent that was waited for did not become ready."""

    def __init__(self, status: AgentStatus, what: str) -> None:
        reason = f" ({status.reason})" if status.reason else ""
        message = f": {status.message}" if status.message else ""
        super().__init__(f"{what}: {status.phase}{reason}{message}")
        #: The last one seen.
        self.status = status


_BY_STATUS: Mapping[int, type[ApiError]] = {
    401: AuthError,
    403: AuthError,
    404: NotFoundError,
    409: ConflictError,
}


def error_of(status: int, body: bytes) -> ApiError:
    """The typed error for a response that is no success."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        # For example the page of a proxy in between.
        text = body[:500].decode("utf-8", errors="replace").strip()
        problem = {"detail": text or f"the server answered {status}"}
    return typed_error(status, problem)


def problem_in(entry: Mapping[str, Any]) -> ApiError | None:
    """The typed error for an entry of a stream that tells why it ends."""
    problem = entry.get("problem")
    if not isinstance(problem, dict):
        return None
    return typed_error(int(problem.get("status") or 0), problem)


def typed_error(status: int, problem: Mapping[str, Any]) -> ApiError:
    """The class that fits a problem document."""
    if problem.get("code") in TASK_CODES:
        return TaskFailedError(status, problem)
    return _BY_STATUS.get(status, ApiError)(status, problem)
