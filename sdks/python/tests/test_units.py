"""Small parts by themselves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer

from parallax_sdk import Agent, Capability, ConfigError, Context, Evidence, Result, TaskError, Usage
from parallax_sdk.config import Endpoint, agent_config
from parallax_sdk.session.backoff import Backoff
from parallax_sdk.session.credit import CreditLedger
from parallax_sdk.text import wire_text

SDK = Path(__file__).resolve().parent.parent


async def nothing(value: Any, ctx: Context) -> None:
    """Does nothing.

    At length.
    """


def test_endpoints_are_read_strictly() -> None:
    assert Endpoint.parse("http://[::1]:7400").authority == "[::1]:7400"
    assert Endpoint.parse("https://example.org/") == Endpoint("example.org", 443, True)
    for wrong in ("127.0.0.1:7400", "ftp://x", "http://x/path", "http://x:99999", "http://u@x"):
        with pytest.raises(ConfigError):
            Endpoint.parse(wrong)


def test_all_missing_settings_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        agent_config(
            name=None, url=None, token_file=None, ca_file=None, stop_grace=None, environ={}
        )
    for name in ("PARALLAX_AGENT_NAME", "PARALLAX_URL", "PARALLAX_TOKEN_FILE"):
        assert name in str(error.value)


def test_the_environment_fills_in_and_arguments_win(tmp_path: Path) -> None:
    environ = {
        "PARALLAX_AGENT_NAME": "env",
        "PARALLAX_URL": "http://127.0.0.1:1",
        "PARALLAX_TOKEN_FILE": str(tmp_path / "token"),
        "PARALLAX_STOP_GRACE_MS": "2500",
    }
    config = agent_config(
        name="arg", url=None, token_file=None, ca_file=None, stop_grace=None, environ=environ
    )
    assert (config.agent_name, config.endpoint.port, config.stop_grace) == ("arg", 1, 2.5)
    with pytest.raises(ConfigError, match="cannot be read"):
        config.read_token()
    config.token_file.write_text(" \n", encoding="ascii")
    with pytest.raises(ConfigError, match="is empty"):
        config.read_token()


def test_the_jitter_is_full_and_its_ceiling_doubles_up_to_ten_seconds() -> None:
    lows: list[float] = []

    def highest(low: float, high: float) -> float:
        lows.append(low)
        return high

    backoff = Backoff(highest)
    delays = [backoff.next_delay() for _ in range(8)]
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert set(lows) == {0.0}
    assert backoff.next_delay(asked=5.0) == 15.0
    backoff.reset()
    assert backoff.next_delay() == 0.2


def test_credit_follows_the_difference_and_not_the_events() -> None:
    ledger = CreditLedger(4)
    assert ledger.restate(running=1, paused=False) == 3
    assert ledger.grant(running=1, paused=False) == 0
    ledger.spend()
    assert ledger.grant(running=1, paused=False) == 1
    ledger.limit(2)
    assert ledger.grant(running=0, paused=False) == 0
    ledger.close()
    assert ledger.restate(running=0, paused=False) == 0


def test_declarations_that_cannot_work_are_refused() -> None:
    agent = Agent("a")
    agent.add(Capability("x", nothing))
    with pytest.raises(ConfigError, match="declared twice"):
        agent.add(Capability("x", nothing))
    with pytest.raises(ConfigError, match="not a valid JSON Schema"):
        Capability("y", nothing, input_schema={"type": 7})
    with pytest.raises(ConfigError, match="max_concurrency"):
        Capability("y", nothing, max_concurrency=-1)
    with pytest.raises(ConfigError, match="no name"):
        Capability(" y", nothing)
    with pytest.raises(ConfigError, match="at least 1"):
        Agent("a", concurrency=0)


def test_results_check_what_the_wire_cannot_carry() -> None:
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="confidence"):
            Result(1, confidence=wrong)
    with pytest.raises(ValueError, match="output_tokens"):
        Usage(output_tokens=-1)
    with pytest.raises(ValueError, match="needs a code"):
        TaskError("")
    assert Evidence("k", "\ud800", {"n": 1}).to_wire().summary == "?"
    assert wire_text("é" * 10, 10) == "ééé…"


def test_a_schema_never_fetches_what_it_refers_to() -> None:
    capability = Capability("x", nothing, input_schema={"$ref": "http://127.0.0.1:1/schema"})
    assert capability.schema is not None
    with pytest.raises(Exception, match="Unresolvable"):
        capability.schema.check({})


async def test_sigterm_drains_a_process_and_it_exits_well(tmp_path: Path) -> None:
    async with FakeServer(tmp_path) as server:
        environ = {
            **os.environ,
            "PYTHONPATH": str(SDK / "src"),
            "PARALLAX_URL": server.url,
            "PARALLAX_TOKEN_FILE": str(server.token_file),
        }
        fixture = subprocess.Popen(  # noqa: ASYNC220 - it is only started and waited for
            [sys.executable, str(SDK / "conformance" / "fixture.py")], env=environ
        )
        try:
            peer, hello = await server.connected()
            assert hello.agent_name == "conformance-fixture"
            peer.welcome()
            peer.task("t1", "stubborn", {"ms": 60_000})
            await peer.take("accepted")
            fixture.send_signal(signal.SIGTERM)
            await peer.take("drain")
            # A second one means now, even for a handler that will not stop.
            fixture.send_signal(signal.SIGTERM)
            await peer.ended()
            assert await asyncio.to_thread(fixture.wait, 15) == 0
        finally:
            fixture.kill()
            fixture.wait()
