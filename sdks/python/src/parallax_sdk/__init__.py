"""Write Parallax agents in Python, and call them.

`Agent` serves; `Client` calls. Everything else is what they take and give.
"""

from ._version import __version__
from .agent import Agent
from .capability import Capability
from .client import (
    AgentFailedError,
    AgentStatus,
    ApiError,
    AuthError,
    Client,
    ConflictError,
    Deployment,
    DeploySpec,
    InvokeResult,
    NotFoundError,
    Partial,
    Progress,
    ReceivedEvidence,
    RegistryChange,
    RegistryEntry,
    Skipped,
    StoredValue,
    TaskEvent,
    TaskFailedError,
    TaskRecord,
    TransportError,
)
from .context import Context, SyncContext, TaskInfo
from .errors import ConfigError, ParallaxError, RefusedError, SupersededError, TaskError
from .json_value import JsonValue
from .result import Evidence, Result, Usage
from .session.inputs import InputMessage

__all__ = [
    "Agent",
    "AgentFailedError",
    "AgentStatus",
    "ApiError",
    "AuthError",
    "Capability",
    "Client",
    "ConfigError",
    "ConflictError",
    "Context",
    "DeploySpec",
    "Deployment",
    "Evidence",
    "InputMessage",
    "InvokeResult",
    "JsonValue",
    "NotFoundError",
    "ParallaxError",
    "Partial",
    "Progress",
    "ReceivedEvidence",
    "RefusedError",
    "RegistryChange",
    "RegistryEntry",
    "Result",
    "Skipped",
    "StoredValue",
    "SupersededError",
    "SyncContext",
    "TaskError",
    "TaskEvent",
    "TaskFailedError",
    "TaskInfo",
    "TaskRecord",
    "TransportError",
    "Usage",
    "__version__",
]
