"""How many tasks the server may still send."""

from __future__ import annotations


class CreditLedger:
    """Keeps running + outstanding ≤ capacity.

    Credit is granted where the difference shows, never counted up by events; so
    a lost or repeated frame cannot make it drift.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._server_limit = concurrency
        self._outstanding = 0
        self._closed = False

    @property
    def capacity(self) -> int:
        return 0 if self._closed else min(self._concurrency, self._server_limit)

    def restate(self, running: int, paused: bool) -> int:
        """The credit of a Hello: it replaces whatever an older stream granted."""
        self._outstanding = 0
        return self.grant(running, paused)

    def grant(self, running: int, paused: bool) -> int:
        """Credit to hand out now. None while `paused`."""
        if paused:
            return 0
        free = max(0, self.capacity - running - self._outstanding)
        self._outstanding += free
        return free

    def spend(self) -> None:
        """A task arrived."""
        self._outstanding = max(0, self._outstanding - 1)

    def limit(self, max_credit: int) -> None:
        """Learns Limits.max_credit; 0 means that the server has no limit."""
        self._server_limit = max_credit or self._concurrency
        self._outstanding = min(self._outstanding, self._server_limit)

    def close(self) -> None:
        """The agent drains: nothing is granted again."""
        self._closed = True
        self._outstanding = 0
