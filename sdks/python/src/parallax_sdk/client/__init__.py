"""Deploys agents and calls them over the HTTP API."""

from .client import Client
from .models import Deployment, InvokeResult, RegistryEntry, TaskRecord
from .problem import (
    ApiError,
    AuthError,
    ConflictError,
    NotFoundError,
    TaskFailedError,
    TransportError,
)

__all__ = [
    "ApiError",
    "AuthError",
    "Client",
    "ConflictError",
    "Deployment",
    "InvokeResult",
    "NotFoundError",
    "RegistryEntry",
    "TaskFailedError",
    "TaskRecord",
    "TransportError",
]
