"""One stream, from Hello to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from .._generated import agents_pb2 as agents
from .channel import FirstStatus, Services
from .ending import Ending, Next, of_goaway, of_status
from .link import Limits, Live
from .outbox import Outbox
from .worker import Worker

if TYPE_CHECKING:
    from .channel import SessionCall

log = logging.getLogger("parallax_sdk")

#: A server that accepts a stream but says nothing is given up after this, in seconds.
WELCOME_TIMEOUT_S = 10.0
#: After a Goaway, for the frames that are still waiting to be written, in seconds.
FLUSH_TIMEOUT_S = 1.0
#: Where a server announces no ttl, in seconds.
DEFAULT_TTL_S = 15.0
#: Heartbeats are never closer than this, whatever the ttl, in seconds.
MIN_HEARTBEAT_S = 0.05


@dataclass(frozen=True)
class Callbacks:
    """What the owner of the sessions wants to know at once."""

    #: A Welcome arrived and its verdicts were followed.
    welcomed: Callable[[agents.Welcome], None]
    #: The server removed this agent; the stream stays for the running tasks.
    removed: Callable[[str], None]


class Session:
    """Runs once."""

    def __init__(
        self, services: Services, hello: agents.Hello, worker: Worker, callbacks: Callbacks
    ) -> None:
        self._services = services
        self._hello = hello
        self._worker = worker
        self._callbacks = callbacks
        self._outbox = Outbox()
        self._welcomed = False
        self._heard = 0.0
        self._removed: Ending | None = None

    async def run(self) -> Ending:
        """Returns when the stream is over. Never raises for what the network does."""
        call = self._services.session()
        self._first_status = FirstStatus(call)
        try:
            welcome = await self._handshake(call)
            if not isinstance(welcome, agents.Welcome):
                return welcome
            return await self._serve(call, welcome)
        finally:
            self._worker.link.detach()
            call.cancel()

    async def _handshake(self, call: SessionCall) -> agents.Welcome | Ending:
        exchange = asyncio.ensure_future(self._exchange_hello(call))
        done, _ = await asyncio.wait({exchange}, timeout=WELCOME_TIMEOUT_S)
        if not done:
            exchange.cancel()
            return Ending(Next.RECONNECT, f"no Welcome within {WELCOME_TIMEOUT_S:.0f} s")
        return exchange.result()

    async def _exchange_hello(self, call: SessionCall) -> agents.Welcome | Ending:
        try:
            await call.write(agents.AgentUp(hello=self._hello))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return await self._status()
        frame = await self._read(call)
        if isinstance(frame, Ending):
            return frame
        kind = frame.WhichOneof("frame")
        if kind == "goaway":
            return of_goaway(frame.goaway)
        if kind != "welcome":
            return Ending(Next.RECONNECT, f"the server's first frame was {kind}, not welcome")
        return frame.welcome

    async def _serve(self, call: SessionCall, welcome: agents.Welcome) -> Ending:
        self._welcomed = True
        ttl = welcome.ttl_ms / 1000 or DEFAULT_TTL_S
        limits = Limits.of(welcome.limits)
        self._worker.link.attach(Live(self._outbox, self._services, limits))
        self._worker.welcomed(list(self._hello.inventory), list(welcome.verdicts), limits)
        self._callbacks.welcomed(welcome)
        writer = asyncio.ensure_future(self._write_all(call))
        parts = {
            asyncio.ensure_future(self._read_all(call)),
            asyncio.ensure_future(self._watch_silence(ttl)),
        }
        heart = asyncio.ensure_future(self._beat(welcome.lease_epoch, ttl))
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            ending = done.pop().result()
            await self._flush(call, writer)
            return self._removed or ending
        finally:
            await _end_all({writer, heart, *parts})

    async def _read_all(self, call: SessionCall) -> Ending:
        while True:
            frame = await self._read(call)
            if isinstance(frame, Ending):
                return frame
            ending = self._handle(frame)
            if ending is not None:
                return ending

    def _handle(self, frame: agents.AgentDown) -> Ending | None:
        kind = frame.WhichOneof("frame")
        if kind == "task":
            self._worker.task(frame.task)
        elif kind == "result_ack":
            self._worker.acked(frame.result_ack.ref)
        elif kind == "cancel":
            self._worker.cancel(frame.cancel)
        elif kind == "input":
            self._worker.input(frame.input)
        elif kind == "partial_credit":
            self._worker.partial_credit(frame.partial_credit)
        elif kind == "ping":
            self._outbox.put(agents.AgentUp(pong=agents.Pong(nonce=frame.ping.nonce)))
        elif kind == "goaway":
            return self._goaway(frame.goaway)
        else:
            # A newer server's frame, or a second Welcome: v1 lets both be ignored.
            log.debug("ignored a frame of kind %s", kind)
        return None

    def _goaway(self, goaway: agents.Goaway) -> Ending | None:
        ending = of_goaway(goaway)
        log.info("the server ends the session: %s", ending.message)
        if ending.next is not Next.REMOVED:
            return ending
        # Tasks that still run may report as long as the server listens.
        self._removed = ending
        self._callbacks.removed(ending.message)
        return None

    async def _read(self, call: SessionCall) -> agents.AgentDown | Ending:
        try:
            frame = await call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return await self._status()
        if not isinstance(frame, agents.AgentDown):
            return await self._status()
        self._heard = asyncio.get_running_loop().time()
        return frame

    async def _status(self) -> Ending:
        return of_status(await self._first_status.get(), self._welcomed)

    async def _write_all(self, call: SessionCall) -> None:
        try:
            while True:
                await call.write(await self._outbox.next())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            # The reader meets the same end and knows its status.
            log.debug("the stream takes no more frames: %s", error)

    async def _beat(self, epoch: int, ttl: float) -> None:
        while True:
            await asyncio.sleep(max(MIN_HEARTBEAT_S, ttl / 3))
            heartbeat = agents.Heartbeat(lease_epoch=epoch, inflight=self._worker.inflight)
            self._outbox.put(agents.AgentUp(heartbeat=heartbeat))

    async def _watch_silence(self, ttl: float) -> Ending:
        loop = asyncio.get_running_loop()
        while True:
            left = self._heard + 2 * ttl - loop.time()
            if left <= 0:
                return Ending(Next.RECONNECT, f"nothing heard from the server for {2 * ttl:g} s")
            await asyncio.sleep(left)

    async def _flush(self, call: SessionCall, writer: asyncio.Future[None]) -> None:
        """Gives frames in the queue, for example a CancelAck, a chance to leave."""
        if call.done():
            return
        flushed = asyncio.ensure_future(self._outbox.flushed())
        await asyncio.wait(
            {flushed, writer}, timeout=FLUSH_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        await _end_all({flushed})


async def _end_all(parts: set[asyncio.Future[None] | asyncio.Future[Ending]]) -> None:
    for part in parts:
        part.cancel()
    await asyncio.wait(parts)
