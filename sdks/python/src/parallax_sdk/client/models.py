"""What the HTTP API answers, as far as this client names it.

`raw` carries the whole document: a newer server may say more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..json_value import JsonValue
from ..result import PPM, Evidence
from .problem import TaskFailedError

#: States after which a task never changes again.
FINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "expired", "lost"})


@dataclass(frozen=True)
class InvokeResult:
    """The result of a task."""

    task_id: str
    value: JsonValue
    #: Between 0 and 1; None where the agent gave none.
    confidence: float | None = None
    evidence: Sequence[Evidence] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, task_id: str, document: Mapping[str, Any]) -> InvokeResult:
        return cls(
            task_id=task_id,
            value=document.get("value"),
            confidence=_confidence(document.get("confidence")),
            evidence=tuple(
                Evidence(
                    str(item.get("kind", "")), str(item.get("summary", "")), item.get("detail")
                )
                for item in document.get("evidence") or ()
            ),
            raw=document,
        )


@dataclass(frozen=True)
class TaskRecord:
    """A durable task as the server sees it now."""

    id: str
    state: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> TaskRecord:
        task_id = document.get("id") or document.get("task_id") or ""
        return cls(str(task_id), str(document.get("state", "")), document)

    @property
    def done(self) -> bool:
        return self.state in FINAL_STATES

    def result(self) -> InvokeResult:
        """The result of a task that succeeded.

        Raises TaskFailedError when it ended otherwise, and RuntimeError while it
        has not ended.
        """
        if not self.done:
            raise RuntimeError(f"task {self.id} is {self.state}: it has no result yet")
        outcome: Mapping[str, Any] = self.raw.get("outcome") or {}
        if self.state == "succeeded":
            return InvokeResult.of(self.id, outcome)
        # The request was answered well; it is the task that failed.
        raise TaskFailedError(200, {"code": self.state, **outcome})


@dataclass(frozen=True)
class Deployment:
    """A deploy that the server accepted; building and starting follow."""

    agent: str
    revision: str
    status_url: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Deployment:
        return cls(
            agent=_name(document.get("agent")),
            revision=_name(document.get("revision")),
            status_url=str(document.get("status_url", "")),
            raw=document,
        )


@dataclass(frozen=True)
class RegistryEntry:
    """One connected instance of an agent."""

    agent_name: str
    instance_uuid: str
    state: str
    capabilities: Sequence[str]
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> RegistryEntry:
        return cls(
            agent_name=str(document.get("agent_name", "")),
            instance_uuid=str(document.get("instance_uuid", "")),
            state=str(document.get("state", "")),
            capabilities=tuple(_name(item) for item in document.get("capabilities") or ()),
            raw=document,
        )


def _name(value: object) -> str:
    """Of an object, its name or id; of a plain word, the word."""
    if isinstance(value, Mapping):
        return str(value.get("name") or value.get("id") or "")
    return "" if value is None else str(value)


def _confidence(value: object) -> float | None:
    if isinstance(value, Mapping):
        return value["ppm"] / PPM if "ppm" in value else _confidence(value.get("value"))
    return float(value) if isinstance(value, int | float) else None
