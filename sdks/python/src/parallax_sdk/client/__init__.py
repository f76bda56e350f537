"""Deploys agents and calls them over the HTTP API."""

from .client import Client
from .models import (
    AgentStatus,
    Deployment,
    DeploySpec,
    InvokeResult,
    Partial,
    Progress,
    ReceivedEvidence,
    RegistryChange,
    RegistryEntry,
    Skipped,
    StoredValue,
    TaskEvent,
    TaskRecord,
)
from .problem import (
    AgentFailedError,
    ApiError,
    AuthError,
    ConflictError,
    NotFoundError,
    TaskFailedError,
    TransportError,
)

__all__ = [
    "AgentFailedError",
    "AgentStatus",
    "ApiError",
    "AuthError",
    "Client",
    "ConflictError",
    "DeploySpec",
    "Deployment",
    "InvokeResult",
    "NotFoundError",
    "Partial",
    "Progress",
    "ReceivedEvidence",
    "RegistryChange",
    "RegistryEntry",
    "Skipped",
    "StoredValue",
    "TaskEvent",
    "TaskFailedError",
    "TaskRecord",
    "TransportError",
]
