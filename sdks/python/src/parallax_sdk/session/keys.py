"""The identity of one attempt at one task."""

from __future__ import annotations

from typing import NamedTuple

from .._generated import common_pb2 as common


class TaskKey(NamedTuple):
    """Results bind to this pair, never to a connection."""

    task_id: str
    attempt: int

    @classmethod
    def of(cls, ref: common.TaskRef) -> TaskKey:
        return cls(ref.task_id, ref.attempt)
