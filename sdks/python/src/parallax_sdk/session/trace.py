"""Going on with a caller's trace where the process has OpenTelemetry. It is not required."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def within_trace(trace: Mapping[str, str]) -> Iterator[None]:
    """Makes spans that are started within children of the task's.

    Does nothing where OpenTelemetry is not installed, or the task has no trace.
    """
    otel = _opentelemetry() if trace else None
    if otel is None:
        yield
        return
    context, propagate = otel
    token = context.attach(propagate.extract(trace))
    try:
        yield
    finally:
        context.detach(token)


@functools.cache
def _opentelemetry() -> tuple[Any, Any] | None:
    try:
        return (
            importlib.import_module("opentelemetry.context"),
            importlib.import_module("opentelemetry.propagate"),
        )
    except ImportError:
        # Not installed, which is the usual case.
        return None
