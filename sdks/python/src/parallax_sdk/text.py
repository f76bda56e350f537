"""Text as protobuf accepts it."""

from __future__ import annotations

#: Longer messages are cut: a frame must stay far below the server's limit.
MAX_TEXT_BYTES = 16 * 1024


def wire_text(text: str, limit: int = MAX_TEXT_BYTES) -> str:
    """The text with lone surrogates replaced, cut to `limit` bytes of UTF-8."""
    data = text.encode("utf-8", errors="replace")
    if len(data) > limit:
        # The ellipsis takes three bytes; a cut character is dropped whole.
        return data[: limit - 3].decode("utf-8", errors="ignore") + "…"
    return data.decode("utf-8")
