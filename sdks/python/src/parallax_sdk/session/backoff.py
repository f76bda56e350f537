"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random
from collections.abc import Callable

#: The first ceiling, in seconds; each failure in a row doubles it.
FIRST_CEILING_S = 0.2
#: The last one: a server that is back is found within ten seconds.
LAST_CEILING_S = 10.0


class Backoff:
    """Full jitter: a uniform share of a growing ceiling, so that a fleet spreads out."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._ceiling = FIRST_CEILING_S

    def next_delay(self, asked: float = 0.0) -> float:
        """Seconds to wait, never less than the `asked` delay of the server."""
        delay = asked + self._uniform(0.0, self._ceiling)
        self._ceiling = min(LAST_CEILING_S, self._ceiling * 2)
        return delay

    def reset(self) -> None:
        """After a session that proved healthy."""
        self._ceiling = FIRST_CEILING_S
