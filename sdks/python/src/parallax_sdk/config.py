"""Settings, and the only place that reads the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .errors import ConfigError

#: How long a stopping agent may finish its tasks, where nothing else is said.
DEFAULT_STOP_GRACE_S = 10.0


@dataclass(frozen=True)
class Endpoint:
    """Where the server is."""

    host: str
    port: int
    tls: bool

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Reads `http://host:port` or `https://host:port`; ConfigError otherwise."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"the server URL {url!r} has no valid port: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"the server URL {url!r} must look like http://127.0.0.1:7400 or https://host"
            )
        if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
            raise ConfigError(f"the server URL {url!r} may only name scheme, host and port")
        tls = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if tls else 80), tls)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


@dataclass(frozen=True)
class AgentConfig:
    """Everything that an agent needs to know to connect."""

    agent_name: str
    endpoint: Endpoint
    token_file: Path
    ca_file: Path | None
    #: Seconds.
    stop_grace: float

    def read_token(self) -> str:
        """The credential as it is now: a host renews the file in place.

        Raises ConfigError when the file cannot be read or is empty.
        """
        return read_secret(self.token_file, "PARALLAX_TOKEN_FILE")

    def read_roots(self) -> bytes | None:
        """The PEM roots of PARALLAX_CA_FILE; None for the usual ones."""
        return None if self.ca_file is None else read_file(self.ca_file, "PARALLAX_CA_FILE")


def agent_config(
    *,
    name: str | None,
    url: str | None,
    token_file: str | Path | None,
    ca_file: str | Path | None,
    stop_grace: float | None,
    environ: Mapping[str, str] = os.environ,
) -> AgentConfig:
    """Arguments first, then the environment. All that is missing is named at once."""
    name = name or environ.get("PARALLAX_AGENT_NAME")
    url = url or environ.get("PARALLAX_URL")
    token_file = token_file or environ.get("PARALLAX_TOKEN_FILE")
    ca_file = ca_file or environ.get("PARALLAX_CA_FILE") or None
    missing = [
        hint
        for value, hint in (
            (name, "the agent's name (PARALLAX_AGENT_NAME, or Agent(name))"),
            (url, "the server's URL (PARALLAX_URL)"),
            (token_file, "the file with the agent's token (PARALLAX_TOKEN_FILE)"),
        )
        if not value
    ]
    if not name or not url or not token_file:
        raise ConfigError("cannot start: set " + ", ".join(missing))
    grace = stop_grace if stop_grace is not None else _grace(environ)
    return AgentConfig(
        agent_name=name,
        endpoint=Endpoint.parse(url),
        token_file=Path(token_file),
        ca_file=Path(ca_file) if ca_file else None,
        stop_grace=grace,
    )


@dataclass(frozen=True)
class ClientConfig:
    """Everything that a client needs to know to call the HTTP API."""

    endpoint: Endpoint
    #: The key itself, or else the file that holds it.
    api_key: str | Path
    ca_file: Path | None

    def read_key(self) -> str:
        """The key as it is now; ConfigError when its file cannot be read or is empty."""
        if isinstance(self.api_key, str):
            return self.api_key
        return read_secret(self.api_key, "PARALLAX_API_KEY_FILE")


def client_config(
    *,
    url: str | None,
    api_key: str | None,
    api_key_file: str | Path | None,
    ca_file: str | Path | None,
    environ: Mapping[str, str] = os.environ,
) -> ClientConfig:
    """Arguments first, then PARALLAX_URL, PARALLAX_API_KEY_FILE and PARALLAX_CA_FILE."""
    url = url or environ.get("PARALLAX_URL")
    key_file = api_key_file or environ.get("PARALLAX_API_KEY_FILE")
    if not url:
        raise ConfigError("cannot connect: set the server's URL (PARALLAX_URL)")
    if not api_key and not key_file:
        raise ConfigError("cannot connect: set the file with your key (PARALLAX_API_KEY_FILE)")
    ca = ca_file or environ.get("PARALLAX_CA_FILE") or None
    config = ClientConfig(
        endpoint=Endpoint.parse(url),
        api_key=api_key or Path(key_file or ""),
        ca_file=Path(ca) if ca else None,
    )
    # What is wrong now is said now, not at the first request.
    config.read_key()
    if config.ca_file is not None:
        read_file(config.ca_file, "PARALLAX_CA_FILE")
    return config


#: What a failure to trust the server's certificate looks like in OpenSSL and in gRPC.
_UNTRUSTED = re.compile(r"certificate|CERT_|Ssl handshake failed", re.IGNORECASE)


def trust_advice(failure: str, ca_file: Path | None) -> str:
    """What to do about a connection that failed because of the server's certificate;
    empty for other failures."""
    if not _UNTRUSTED.search(failure):
        return ""
    if ca_file is None:
        return (
            "; set PARALLAX_CA_FILE to a PEM file with the authority that signed the server's "
            "certificate"
        )
    return (
        f"; PARALLAX_CA_FILE is {ca_file}: it does not hold the authority that signed the "
        "server's certificate"
    )


def read_file(path: Path, setting: str) -> bytes:
    """The file's bytes, or ConfigError with the setting that named it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting} names {path}, which cannot be read: {error}") from error


def read_secret(path: Path, setting: str) -> str:
    """The file's trimmed text, or ConfigError with the setting that named it."""
    try:
        secret = read_file(path, setting).decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{setting} names {path}, which is not plain text") from error
    if not secret:
        raise ConfigError(f"{setting} names {path}, which is empty")
    return secret


def _grace(environ: Mapping[str, str]) -> float:
    text = environ.get("PARALLAX_STOP_GRACE_MS")
    if not text:
        return DEFAULT_STOP_GRACE_S
    try:
        milliseconds = int(text)
    except ValueError as error:
        raise ConfigError(f"PARALLAX_STOP_GRACE_MS is {text!r}: give whole milliseconds") from error
    if milliseconds < 0:
        raise ConfigError(f"PARALLAX_STOP_GRACE_MS is {milliseconds}: it cannot be negative")
    return milliseconds / 1000
