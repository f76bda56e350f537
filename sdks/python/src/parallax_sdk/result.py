"""What a handler may return beside a bare value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ._generated import common_pb2 as common
from .json_value import JsonValue, encode
from .text import wire_text

#: The scale of shares on the wire: parts per million.
PPM = 1_000_000


def ppm(share: float, what: str) -> int:
    """A share between 0 and 1 in parts per million; ValueError outside of that."""
    if not math.isfinite(share) or not 0.0 <= share <= 1.0:
        raise ValueError(f"{what} is {share}: it must be between 0 and 1")
    return round(share * PPM)


@dataclass(frozen=True)
class Evidence:
    """Something that supports a result and that a person can look at."""

    kind: str
    summary: str
    #: Any JSON value with the particulars; None when there are none.
    detail: JsonValue = None

    def to_wire(self) -> common.Evidence:
        detail = b"" if self.detail is None else encode(self.detail, "the evidence's detail")
        return common.Evidence(
            kind=wire_text(self.kind), summary=wire_text(self.summary), detail_json=detail
        )


@dataclass(frozen=True)
class Usage:
    """What the task consumed as the agent counts it; shown, never billed."""

    input_tokens: int = 0
    output_tokens: int = 0
    #: In millionths of the currency's minor unit.
    cost_micro_minor: int = 0
    currency: str = ""

    def __post_init__(self) -> None:
        for name in ("input_tokens", "output_tokens", "cost_micro_minor"):
            count = getattr(self, name)
            if not isinstance(count, int) or not 0 <= count < 2**64:
                raise ValueError(f"{name} is {count!r}: it must be a whole number from 0 on")

    def to_wire(self) -> common.TaskUsage:
        return common.TaskUsage(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cost_micro_minor=self.cost_micro_minor,
            currency=wire_text(self.currency),
        )


@dataclass(frozen=True)
class Result:
    """A value together with what the agent knows about it.

    `confidence` is between 0 and 1; leave it None where it is unknown, which is
    neither 0 nor 1. `confidence_source` says who estimates: `self`, `model`,
    `checker` or a word of your own.
    """

    value: JsonValue
    confidence: float | None = None
    confidence_source: str = "self"
    evidence: Sequence[Evidence] = ()
    usage: Usage | None = None

    def __post_init__(self) -> None:
        if self.confidence is not None:
            ppm(self.confidence, "confidence")

    def confidence_to_wire(self) -> common.Confidence | None:
        if self.confidence is None:
            return None
        return common.Confidence(
            ppm=ppm(self.confidence, "confidence"), source=wire_text(self.confidence_source)
        )
