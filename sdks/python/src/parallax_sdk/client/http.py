"""HTTP/1.1 with the standard library, one thread and one connection a request."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .._version import __version__
from ..config import Endpoint
from ..session.threads import in_thread
from .problem import TransportError, error_of

#: A value may be a blob of 64 MiB; its JSON may escape some of it.
MAX_BODY_BYTES = 256 * 1024 * 1024
#: To reach the server at all, in seconds.
CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] | None = None
    #: Of `body`, where it is not bytes.
    length: int | None = None
    #: Seconds that the server may be silent.
    timeout: float = 60.0


class Transport:
    """Sends requests; a cancelled request closes its connection, so that the
    server learns that the caller has gone."""

    def __init__(self, endpoint: Endpoint, api_key: str, ca_file: Path | None) -> None:
        self._endpoint = endpoint
        self._api_key = api_key
        self._tls = ssl.create_default_context(cafile=ca_file) if endpoint.tls else None

    async def send(self, request: Request) -> bytes:
        """The body of a successful response; ApiError or TransportError otherwise."""
        exchange = _Exchange(self._connection())
        try:
            status, body = await _abortable(exchange, request, self._headers(request))
        except (OSError, http.client.HTTPException) as error:
            raise TransportError(
                f"{request.method} {request.path} at {self._endpoint.authority}: "
                f"{error or type(error).__name__}"
            ) from error
        if not 200 <= status < 300:
            raise error_of(status, body)
        return body

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._endpoint.host, self._endpoint.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_S)
        return http.client.HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT_S, context=self._tls)

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {
            "Accept": "application/json, application/problem+json",
            "Authorization": f"Bearer {self._api_key}",
            "User-Agent": f"parallax-sdk-python/{__version__}",
            "Connection": "close",
            **request.headers,
        }
        if request.length is not None:
            headers["Content-Length"] = str(request.length)
        return headers


async def _abortable(
    exchange: _Exchange, request: Request, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    name = f"parallax-{request.method.lower()}"
    running = asyncio.ensure_future(
        in_thread(lambda: exchange.run(request, headers), name, exchange.abort)
    )
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

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._socket: socket.socket | None = None
        self.aborted = False

    def run(self, request: Request, headers: Mapping[str, str]) -> tuple[int, bytes]:
        try:
            self._connection.connect()
            # Kept apart: the connection forgets its socket once the response has it.
            self._socket = self._connection.sock
            self._socket.settimeout(request.timeout)
            if self.aborted:
                raise ConnectionAbortedError("cancelled")
            self._connection.request(request.method, request.path, request.body, dict(headers))
            response = self._connection.getresponse()
            body = response.read(MAX_BODY_BYTES + 1)
            if len(body) > MAX_BODY_BYTES:
                raise http.client.HTTPException(
                    f"the response has more than {MAX_BODY_BYTES} bytes"
                )
            return response.status, body
        finally:
            self._connection.close()

    def abort(self) -> None:
        self.aborted = True
        if self._socket is not None:
            # A socket that the thread has closed meanwhile needs no shutdown.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
