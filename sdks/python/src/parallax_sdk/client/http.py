"""HTTP/1.1 with the standard library, one thread and one connection a request."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from .._version import __version__
from ..config import ClientConfig, trust_advice
from ..json_value import encode
from ..session.threads import in_thread
from .problem import ApiError, TransportError, error_of, problem_in
from .sse import EventParser, ServerEvent

T = TypeVar("T")

#: A value may be a blob of 64 MiB; its JSON may escape some of it.
MAX_BODY_BYTES = 256 * 1024 * 1024
#: Of a stream, at a time.
CHUNK_BYTES = 64 * 1024
#: To reach the server at all, in seconds.
CONNECT_TIMEOUT_S = 10.0
#: A server that is there answers in a second or two whatever waits for no agent.
REQUEST_TIMEOUT_S = 60.0
#: Streams carry a sign of life every 15 seconds; one that misses three is broken.
STREAM_TIMEOUT_S = 50.0
#: Bounds of the time between a broken stream and the next, in seconds: long
#: enough for a server that restarts.
FIRST_RECONNECT_S = 0.2
LAST_RECONNECT_S = 5.0
#: Answers of a server that will be back, or another in its place.
PASSING = frozenset({"shutting_down", "store_unavailable"})


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] | None = None
    #: Of `body`, where it is not bytes.
    length: int | None = None
    #: Seconds that the server may be silent.
    timeout: float = REQUEST_TIMEOUT_S


class Transport:
    """Sends requests; a cancelled request closes its connection, so that the
    server learns that the caller has gone."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        tls = config.endpoint.tls
        self._tls = ssl.create_default_context(cafile=config.ca_file) if tls else None

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT_S,
    ) -> Any:
        """JSON in, JSON out; None where the answer is empty."""
        return await self.send(_request(method, path, body, headers or {}, timeout))

    async def send(self, request: Request) -> Any:
        """The JSON of a successful response; ApiError or TransportError otherwise."""
        exchange = self._exchange(request, "application/json")
        try:
            status, body = await self._guarded(request, exchange, exchange.whole)
        finally:
            exchange.abort()
        if not 200 <= status < 300:
            raise error_of(status, body)
        return _json(body, request.path)

    async def stream(
        self, request: Request, opened: Callable[[], None] | None = None
    ) -> AsyncGenerator[ServerEvent, None]:
        """The events of a streamed response as they come; errors as of `send`.

        `opened` is called once the server has agreed.
        """
        request = replace(request, timeout=STREAM_TIMEOUT_S)
        exchange = self._exchange(request, "text/event-stream")
        parser = EventParser()
        try:
            status = await self._guarded(request, exchange, exchange.begin)
            if not 200 <= status < 300:
                raise error_of(status, await self._guarded(request, exchange, exchange.rest))
            if opened is not None:
                opened()
            while chunk := await self._guarded(request, exchange, exchange.chunk):
                for event in parser.feed(chunk):
                    yield event
        finally:
            exchange.abort()

    async def follow(
        self, request: Request, after: str = ""
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The entries of a stream, through restarts of the server: a broken one is
        opened again where it was. The first attempt must succeed, so that a wrong
        address shows. A problem within the stream is raised."""
        cursor, pause, connected = after, FIRST_RECONNECT_S, asyncio.Event()
        while True:
            more = {"Last-Event-ID": cursor} if cursor else {}
            attempt = replace(request, headers={**request.headers, **more})
            try:
                async for event in self.stream(attempt, connected.set):
                    problem = problem_in(event.data)
                    if problem is not None:
                        raise problem
                    cursor, pause = event.id or cursor, FIRST_RECONNECT_S
                    yield event.data
                return
            except (TransportError, ApiError) as error:
                if not connected.is_set() or not is_passing(error):
                    raise
            await asyncio.sleep(pause)
            pause = min(LAST_RECONNECT_S, pause * 2)

    async def _guarded(self, request: Request, exchange: _Exchange, work: Callable[[], T]) -> T:
        try:
            return await _abortable(exchange, work, f"parallax-{request.method.lower()}")
        except (OSError, http.client.HTTPException) as error:
            words = str(error) or type(error).__name__
            advice = trust_advice(words, self._config.ca_file)
            authority = self._config.endpoint.authority
            raise TransportError(
                f"{request.method} {request.path} at {authority}: {words}{advice}"
            ) from error

    def _exchange(self, request: Request, accept: str) -> _Exchange:
        headers = {
            "Accept": f"{accept}, application/problem+json",
            "Authorization": f"Bearer {self._config.read_key()}",
            "User-Agent": f"parallax-sdk-python/{__version__}",
            "Connection": "close",
            **request.headers,
        }
        if request.length is not None:
            headers["Content-Length"] = str(request.length)
        return _Exchange(self._connection(), request, headers)

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._config.endpoint.host, self._config.endpoint.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_S)
        return http.client.HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT_S, context=self._tls)


def is_passing(error: TransportError | ApiError) -> bool:
    """Whether the server, or another in its place, will be back."""
    return isinstance(error, TransportError) or error.code in PASSING


async def _abortable(exchange: _Exchange, work: Callable[[], T], name: str) -> T:
    running = asyncio.ensure_future(in_thread(work, name, exchange.abort))
    try:
        await asyncio.wait({running})
    except asyncio.CancelledError:
        exchange.abort()
        # The thread ends at its next step; what it ends with concerns nobody.
        running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        raise
    return running.result()


class _Exchange:
    """One request and its response, which another thread may break off."""

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        request: Request,
        headers: Mapping[str, str],
    ) -> None:
        self._connection = connection
        self._request = request
        self._headers = headers
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None
        self.aborted = False

    def whole(self) -> tuple[int, bytes]:
        """The status and the body."""
        return self.begin(), self.rest()

    def begin(self) -> int:
        """Sends the request and waits for the status."""
        request = self._request
        try:
            self._connection.connect()
            # Kept apart: the connection forgets its socket once the response has it.
            self._socket = self._connection.sock
            self._socket.settimeout(request.timeout)
            if self.aborted:
                raise ConnectionAbortedError("cancelled")
            self._connection.request(
                request.method, request.path, request.body, dict(self._headers)
            )
            self._response = self._connection.getresponse()
            return self._response.status
        except BaseException:
            self._connection.close()
            raise

    def rest(self) -> bytes:
        """The body."""
        response = self._begun()
        try:
            body = response.read(MAX_BODY_BYTES + 1)
            if len(body) > MAX_BODY_BYTES:
                raise http.client.HTTPException(
                    f"the response has more than {MAX_BODY_BYTES} bytes"
                )
            return body
        finally:
            response.close()
            self._connection.close()

    def chunk(self) -> bytes:
        """A piece of the body as soon as there is one; empty at its end."""
        return self._begun().read1(CHUNK_BYTES)

    def abort(self) -> None:
        """Closes the connection, whatever is under way; does nothing when it is closed."""
        self.aborted = True
        if self._socket is not None:
            # A socket that the thread has closed meanwhile needs no shutdown.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _begun(self) -> http.client.HTTPResponse:
        if self._response is None:
            raise ConnectionAbortedError("cancelled")
        return self._response


def _request(
    method: str,
    path: str,
    body: Mapping[str, Any] | None,
    headers: Mapping[str, str],
    timeout: float,
) -> Request:
    if body is None:
        return Request(method, path, headers, timeout=timeout)
    content = {"Content-Type": "application/json", **headers}
    return Request(method, path, content, encode(dict(body), "the request"), timeout=timeout)


def _json(body: bytes, path: str) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError as error:
        raise TransportError(f"{path}: the answer is not JSON: {error}") from error
