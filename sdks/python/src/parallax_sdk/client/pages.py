"""Lists, a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlencode

from .http import Transport


async def pages(
    transport: Transport, path: str, query: Mapping[str, str] | None = None
) -> AsyncIterator[Any]:
    """Every item of a list, page by page as they are needed. Empty filters filter nothing."""
    wanted = {name: text for name, text in (query or {}).items() if text}
    cursor = ""
    while True:
        search = urlencode({**wanted, **({"cursor": cursor} if cursor else {})})
        page = await transport.call("GET", f"{path}?{search}" if search else path)
        for item in page["items"]:
            yield item
        cursor = page.get("next_cursor") or ""
        if not cursor:
            return
