"""Every error that this package raises on purpose."""

from __future__ import annotations


class ParallaxError(Exception):
    """The base of all errors of this package."""


class TaskError(ParallaxError):
    """Raise it in a handler to fail the task with a word that callers can rely on.

    `code` is the agent's own stable word, for example `"invalid_input"`. Set
    `retryable` where trying again can help; the server retries idempotent
    capabilities only. `retry_after` is in seconds.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        if not code:
            raise ValueError("TaskError needs a code, for example 'invalid_input'")
        if retry_after is not None and retry_after < 0:
            raise ValueError(f"retry_after is {retry_after} s: it cannot be negative")
        super().__init__(message or code)
        self.code = code
        self.message = message or code
        self.retryable = retryable
        self.retry_after = retry_after


class ConfigError(ParallaxError):
    """A setting is missing or cannot be used; the message names it and what to do."""


class SupersededError(ParallaxError):
    """A newer session of this very instance exists, so this one must not reconnect."""


class RefusedError(ParallaxError):
    """The server refused this agent for a reason that reconnecting cannot change."""
