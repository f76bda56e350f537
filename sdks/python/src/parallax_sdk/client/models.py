"""What the HTTP API answers, as far as this client names it.

`raw` carries the whole document, typed as in `parallax_sdk.api`: a newer server
may say more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, TypedDict, cast

from .._generated import api
from ..json_value import JsonValue
from ..result import PPM, Usage
from .problem import TaskFailedError

#: States after which a task never changes again.
FINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "expired", "lost"})


class _Named(TypedDict):
    name: str


class DeploySpec(_Named, total=False):
    """What a deployment says about the agent; see `docs/reference/parallax-toml.md`.

    `start` is a list of words here, and times are in milliseconds.
    """

    language: Literal["typescript", "javascript", "python", "rust", "go"]
    start: Sequence[str]
    root_dir: str
    replicas: int
    resources: Mapping[str, str | int | float]
    env: Mapping[str, str]
    labels: Mapping[str, str]
    isolation: Literal["process", "runc", "gvisor"]
    install: Literal["frozen", "loose"]
    probe: Mapping[str, str | int]
    stop_grace_ms: int
    build: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class StoredValue:
    """A value that is kept by its digest."""

    digest: str
    size_bytes: int
    media_type: str


@dataclass(frozen=True)
class ReceivedEvidence:
    """Evidence as a caller sees it."""

    kind: str
    summary: str
    detail: JsonValue = None
    blob: StoredValue | None = None


@dataclass(frozen=True)
class InvokeResult:
    """The result of a task."""

    task_id: str
    value: JsonValue
    #: Between 0 and 1; None where the agent gave none.
    confidence: float | None = None
    #: Who estimates; empty where nobody does.
    confidence_source: str = ""
    evidence: Sequence[ReceivedEvidence] = ()
    usage: Usage | None = None
    raw: api.InvokeResponse | None = field(default=None, repr=False)

    @classmethod
    def of(cls, document: api.InvokeResponse) -> InvokeResult:
        confidence = document.get("confidence")
        usage = document.get("usage")
        return cls(
            task_id=document["task_id"],
            value=document.get("value"),
            confidence=confidence["value_ppm"] / PPM if confidence else None,
            confidence_source=confidence["source"] if confidence else "",
            evidence=tuple(_evidence(item) for item in document.get("evidence") or ()),
            usage=Usage(**usage) if usage else None,
            raw=document,
        )

    def with_value(self, value: JsonValue) -> InvokeResult:
        """The same with a value that was too large to come along."""
        return replace(self, value=value)


@dataclass(frozen=True)
class Progress:
    """How far a streamed call is."""

    #: Between 0 and 1; None where the agent cannot tell.
    fraction: float | None
    message: str


@dataclass(frozen=True)
class Partial:
    """A piece of a streamed call's result. A hole in `seq` means that pieces were
    dropped because they were not read in time."""

    seq: int
    chunk: str


@dataclass(frozen=True)
class Skipped:
    """So many `Progress` and `Partial` were missed, because they were not read in time."""

    count: int


def sign_of_life(entry: Mapping[str, Any]) -> Progress | Partial | None:
    """What an entry of a stream tells of work under way, if it does."""
    if progress := entry.get("progress"):
        ppm = progress.get("ppm")
        return Progress(None if ppm is None else ppm / PPM, progress["message"])
    if partial := entry.get("partial"):
        return Partial(partial["seq"], partial["chunk"])
    return None


@dataclass(frozen=True)
class TaskRecord:
    """A durable task as the server sees it now."""

    id: str
    state: str
    agent: str
    capability: str
    #: The attempt under way or the last one; 0 before the first dispatch.
    attempt: int
    #: How far an asked-for cancel has come: none, requested, acked, stopped, unresolved.
    cancel: str
    #: There once the task has succeeded.
    answer: InvokeResult | None
    #: There once the task has ended otherwise.
    failure: TaskFailedError | None
    raw: api.TaskView = field(repr=False)

    @classmethod
    def of(cls, document: api.TaskView) -> TaskRecord:
        outcome = document.get("outcome") or {}
        answer, problem = outcome.get("answer"), outcome.get("problem")
        about = {"task_id": document["id"]}
        return cls(
            id=document["id"],
            state=document["state"],
            agent=document["agent"],
            capability=document["capability"],
            attempt=document["attempt"],
            cancel=document["cancel"],
            answer=InvokeResult.of(answer) if answer else None,
            # The request was answered well; it is the task that failed.
            failure=TaskFailedError(200, {**problem, **about}) if problem else None,
            raw=document,
        )

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
        if self.answer is not None:
            return self.answer
        raise self.failure or TaskFailedError(200, {"code": self.state, "task_id": self.id})

    def with_answer(self, answer: InvokeResult) -> TaskRecord:
        """The same with the whole of its answer."""
        return replace(self, answer=answer)


@dataclass(frozen=True)
class TaskEvent:
    """A change of a durable task."""

    #: Only grows; go on after it with `after`.
    cursor: int
    at: datetime
    #: What happened, such as `dispatched`.
    kind: str
    #: The task as it was then.
    task: TaskRecord

    @classmethod
    def of(cls, document: api.TaskEventView) -> TaskEvent:
        # Python reads `Z` from 3.11 on.
        at = datetime.fromisoformat(document["at"].replace("Z", "+00:00"))
        task = TaskRecord.of(document["task"])
        return cls(document["cursor"], at, document["kind"], task)


@dataclass(frozen=True)
class Deployment:
    """A deploy that the server accepted; building and starting follow."""

    #: The agent's name.
    agent: str
    agent_id: str
    #: The revision's number; None where the agent is suspended and has no source.
    revision: int | None
    #: What `client.agents.until_ready` waits for.
    generation: int
    status_url: str
    #: False when the same spec and source run already.
    changed: bool
    raw: api.DeployResponse = field(repr=False)

    @classmethod
    def of(cls, document: api.DeployResponse) -> Deployment:
        agent, revision = document["agent"], document.get("revision")
        return cls(
            agent=agent["name"],
            agent_id=agent["id"],
            revision=revision.get("number") if revision else None,
            generation=agent["generation"],
            status_url=document["status_url"],
            changed=document["changed"],
            raw=document,
        )


@dataclass(frozen=True)
class AgentStatus:
    """The life of an agent as it is now."""

    agent: str
    phase: str
    #: Why the phase is not Ready, as a stable word; None when there is no reason.
    reason: str | None
    #: The evidence: exit code, last log line.
    message: str
    #: What is wanted, and what the status already speaks of.
    generation: int
    observed_generation: int
    desired: int
    ready: int
    updated: int
    raw: api.StatusView = field(repr=False)

    @classmethod
    def of(cls, document: api.StatusView) -> AgentStatus:
        counts = document["replicas"]
        return cls(
            agent=document["agent"],
            phase=document["phase"],
            reason=document.get("reason"),
            message=document["message"],
            generation=document["generation"],
            observed_generation=document["observed_generation"],
            desired=counts["desired"],
            ready=counts["ready"],
            updated=counts["updated"],
            raw=document,
        )


@dataclass(frozen=True)
class RegistryEntry:
    """One connected instance of an agent."""

    agent_name: str
    instance_uuid: str
    #: connected, suspect (the connection dropped, the lease runs) or draining.
    state: str
    #: The names of what it can do; the particulars are in `raw`.
    capabilities: Sequence[str]
    labels: Mapping[str, str]
    #: Hosted agents only.
    agent_id: str | None
    in_flight: int
    credit: int
    raw: api.RegistryEntry = field(repr=False)

    @classmethod
    def of(cls, document: api.RegistryEntry) -> RegistryEntry:
        return cls(
            agent_name=document["agent_name"],
            instance_uuid=document["instance_uuid"],
            state=document["state"],
            capabilities=tuple(item["name"] for item in document["capabilities"]),
            labels=document["labels"],
            agent_id=document.get("agent_id"),
            in_flight=document["in_flight"],
            credit=document["credit"],
            raw=document,
        )


@dataclass(frozen=True)
class RegistryChange:
    """A change of the registry.

    `resync`: forget everything, the present entries follow. `synced`: all present
    entries were told. `upserted` comes with the entry; `removed` with its names.
    """

    type: str
    agent_name: str = ""
    instance_uuid: str = ""
    entry: RegistryEntry | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> RegistryChange:
        if document["type"] == "upserted":
            entry = RegistryEntry.of(cast(api.RegistryEntry, document["entry"]))
            return cls("upserted", entry.agent_name, entry.instance_uuid, entry)
        name, uuid = (str(document.get(key, "")) for key in ("agent_name", "instance_uuid"))
        return cls(str(document["type"]), name, uuid)


def _evidence(document: api.Evidence) -> ReceivedEvidence:
    blob = document.get("blob")
    stored = StoredValue(blob["digest"], blob["size_bytes"], blob["media_type"]) if blob else None
    return ReceivedEvidence(document["kind"], document["summary"], document.get("detail"), stored)
