"""An agent that serves a fake server for the length of a test."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fake_server import PATIENCE_S, FakeServer, Peer

from parallax_sdk import Agent
from parallax_sdk._generated import agents_pb2 as agents


@dataclass
class Stage:
    """The server, and the agent's first stream after its Welcome."""

    server: FakeServer
    agent: Agent
    peer: Peer
    hello: agents.Hello
    serving: asyncio.Task[None]

    async def reconnected(self) -> tuple[Peer, agents.Hello]:
        return await self.server.connected()

    async def over(self) -> None:
        """Waits for the agent's end and raises what it ended with."""
        await asyncio.wait_for(asyncio.shield(self.serving), PATIENCE_S)


def new_agent(server: FakeServer, **options: Any) -> Agent:
    options.setdefault("concurrency", 4)
    options.setdefault("stop_grace", 5.0)
    return Agent("tested", url=server.url, token_file=server.token_file, **options)


@contextlib.asynccontextmanager
async def staged(
    server: FakeServer, agent: Agent, ttl_ms: int = 60_000, **limits: int
) -> AsyncIterator[Stage]:
    serving = asyncio.ensure_future(agent.serve())
    try:
        peer, hello = await server.connected()
        peer.welcome(None, ttl_ms, **limits)
        yield Stage(server, agent, peer, hello, serving)
    finally:
        serving.cancel()
        await asyncio.wait({serving})


@contextlib.asynccontextmanager
async def fake_server(tmp_path: Path) -> AsyncIterator[FakeServer]:
    async with FakeServer(tmp_path) as server:
        yield server


def value_of(result: agents.TaskResult) -> Any:
    return json.loads(result.value.json)
