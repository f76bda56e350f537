"""Who is connected now."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from .http import Request, Transport
from .models import RegistryChange, RegistryEntry
from .pages import pages

#: What this client knows; a newer server may tell more.
CHANGES = frozenset({"resync", "synced", "upserted", "removed"})


class Registry:
    """Who is connected now: `client.registry`."""

    def __init__(self, transport: Transport) -> None:
        self._api = transport

    async def list(self, capability: str | None = None) -> AsyncIterator[RegistryEntry]:
        """Every connected instance, page by page."""
        query = {"capability": capability or ""}
        async for document in pages(self._api, "/api/registry", query):
            yield RegistryEntry.of(document)

    async def watch(self) -> AsyncGenerator[RegistryChange, None]:
        """The present entries, then each change, for as long as it is read.

        After a gap, such as a restart of the server, it begins anew with `resync`.
        """
        request = Request("GET", "/api/registry/watch")
        # The server ends this stream only with a reason; an end without one is a cut.
        while True:
            async with aclosing(self._api.follow(request)) as events:
                async for event in events:
                    if event.get("type") in CHANGES:
                        yield RegistryChange.of(event)
