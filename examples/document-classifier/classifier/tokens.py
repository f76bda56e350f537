"""Text to features."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from itertools import pairwise

#: Letters of any script with their inner apostrophes, or numbers with their
#: separators, or one sign of currency, percentage or temperature.
_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+(?:[.,:/-]\d+)*|[€$£%°]")


def tokens(text: str) -> list[str]:
    """Words in lower case, composed alike whatever the text was typed on.

    Which number it is says nothing about the kind of document, but that there
    is a price or a date does: numbers become their shape.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return [_shape(token) if token[0].isdigit() else token for token in _TOKEN.findall(folded)]


def features(text: str) -> dict[str, float]:
    """Words and pairs of neighbours with their weight.

    A word that comes ten times is not ten times the evidence, hence the
    logarithm.
    """
    words = tokens(text)
    pairs = (f"{first} {second}" for first, second in pairwise(words))
    counts = Counter(words)
    counts.update(pairs)
    return {feature: 1.0 + math.log(count) for feature, count in counts.items()}


def _shape(number: str) -> str:
    if re.fullmatch(r"\d+([.,]\d{3})*[.,]\d{2}", number):
        return "<price>"
    if re.fullmatch(r"(19|20)\d\d(-(19|20)?\d\d)?", number):
        return "<year>"
    if ":" in number:
        return "<time>"
    return "<number>"
