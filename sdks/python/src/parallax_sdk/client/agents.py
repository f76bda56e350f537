"""Hosted agents."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

from .._generated import api
from .http import Transport
from .models import AgentStatus
from .pages import pages
from .problem import AgentFailedError

#: Between two looks at a status, in seconds: below what a person notices.
POLL_S = 0.25
#: A first build downloads what it needs. The command line waits as long. Seconds.
READY_TIMEOUT_S = 1800.0
#: Reasons that pass by themselves: a host that joins or comes back, a replica that
#: takes its time.
PASSING = frozenset(
    {
        "Unschedulable",
        "HostLost",
        "ShimLost",
        "NotRegistered",
        "Disconnected",
        "ProbeFailed",
        "ScaledToZero",
        "RollingOut",
    }
)


class _Verdict(enum.Enum):
    READY = enum.auto()
    #: It will not get better by itself soon.
    FAILED = enum.auto()
    WAIT = enum.auto()


class Agents:
    """Hosted agents: `client.agents`."""

    def __init__(self, transport: Transport) -> None:
        self._api = transport

    async def list(self) -> AsyncIterator[api.AgentView]:
        """Every hosted agent, page by page."""
        async for document in pages(self._api, "/api/agents"):
            yield document

    async def status(self, agent: str) -> AgentStatus:
        return AgentStatus.of(await self._api.call("GET", f"{_path(agent)}/status"))

    async def until_ready(
        self, agent: str, *, generation: int | None = None, timeout: float = READY_TIMEOUT_S
    ) -> AgentStatus:
        """Waits until every wanted replica takes work.

        `generation` is the one to be reached, `deployment.generation`; by default
        the present one. Raises AgentFailedError when the agent has failed in a way
        that does not pass by itself, or is not ready within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            status = await self.status(agent)
            verdict = _judge(status, generation or status.generation)
            if verdict is _Verdict.READY:
                return status
            if verdict is _Verdict.FAILED:
                raise AgentFailedError(status, f"{agent} failed")
            if time.monotonic() > deadline:
                raise AgentFailedError(status, f"{agent} was not ready within {timeout:g} s")
            await asyncio.sleep(POLL_S)

    async def scale(self, agent: str, replicas: int) -> api.AgentView:
        view: api.AgentView = await self._api.call(
            "PUT", f"{_path(agent)}/scale", {"replicas": replicas}
        )
        return view

    async def delete(self, agent: str) -> api.AgentView:
        """Drains and removes an agent with all its revisions."""
        view: api.AgentView = await self._api.call("DELETE", _path(agent))
        return view


def _judge(status: AgentStatus, generation: int) -> _Verdict:
    passes = status.reason is None or status.reason in PASSING
    if status.observed_generation < generation:
        return _Verdict.WAIT
    if status.phase == "Ready":
        waits = status.reason == "RollingOut" or not _is_observed(status)
        return _Verdict.WAIT if waits else _Verdict.READY
    if status.phase in ("Suspended", "Deleted"):
        return _Verdict.FAILED
    if status.phase in ("Failed", "Degraded") and not passes:
        return _Verdict.FAILED
    return _Verdict.WAIT


def _is_observed(status: AgentStatus) -> bool:
    """Whether nothing of it is only carried over from before its server's start, or from
    before a host went away."""
    unheard = any(
        not condition["holds"] and condition["kind"] in ("HostConnected", "AgentConnected")
        for condition in status.raw["conditions"]
    )
    return not unheard and not status.raw["replicas"].get("unconfirmed")


def _path(agent: str) -> str:
    return f"/api/agents/{quote(agent, safe='')}"
