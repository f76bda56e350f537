from . import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentUp(_message.Message):
    __slots__ = ("hello", "credit", "accepted", "progress", "partial", "result", "failed", "cancel_ack", "heartbeat", "drain", "pong")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ACK_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    credit: Credit
    accepted: TaskAccepted
    progress: Progress
    partial: Partial
    result: TaskResult
    failed: TaskFailed
    cancel_ack: CancelAck
    heartbeat: Heartbeat
    drain: Drain
    pong: Pong
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., accepted: _Optional[_Union[TaskAccepted, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., partial: _Optional[_Union[Partial, _Mapping]] = ..., result: _Optional[_Union[TaskResult, _Mapping]] = ..., failed: _Optional[_Union[TaskFailed, _Mapping]] = ..., cancel_ack: _Optional[_Union[CancelAck, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ...) -> None: ...

class AgentDown(_message.Message):
    __slots__ = ("welcome", "task", "result_ack", "cancel", "input", "ping", "goaway", "partial_credit")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    RESULT_ACK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    GOAWAY_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_CREDIT_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    task: Task
    result_ack: ResultAck
    cancel: Cancel
    input: Input
    ping: Ping
    goaway: Goaway
    partial_credit: PartialCredit
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., task: _Optional[_Union[Task, _Mapping]] = ..., result_ack: _Optional[_Union[ResultAck, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., input: _Optional[_Union[Input, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., goaway: _Optional[_Union[Goaway, _Mapping]] = ..., partial_credit: _Optional[_Union[PartialCredit, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("agent_name", "instance_uuid", "sdk", "proto_versions", "features", "capabilities", "labels", "credit", "inventory")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AGENT_NAME_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_UUID_FIELD_NUMBER: _ClassVar[int]
    SDK_FIELD_NUMBER: _ClassVar[int]
    PROTO_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_FIELD_NUMBER: _ClassVar[int]
    agent_name: str
    instance_uuid: str
    sdk: Sdk
    proto_versions: _containers.RepeatedScalarFieldContainer[int]
    features: _containers.RepeatedScalarFieldContainer[str]
    capabilities: _containers.RepeatedCompositeFieldContainer[Capability]
    labels: _containers.ScalarMap[str, str]
    credit: int
    inventory: _containers.RepeatedCompositeFieldContainer[InventoryItem]
    def __init__(self, agent_name: _Optional[str] = ..., instance_uuid: _Optional[str] = ..., sdk: _Optional[_Union[Sdk, _Mapping]] = ..., proto_versions: _Optional[_Iterable[int]] = ..., features: _Optional[_Iterable[str]] = ..., capabilities: _Optional[_Iterable[_Union[Capability, _Mapping]]] = ..., labels: _Optional[_Mapping[str, str]] = ..., credit: _Optional[int] = ..., inventory: _Optional[_Iterable[_Union[InventoryItem, _Mapping]]] = ...) -> None: ...

class Sdk(_message.Message):
    __slots__ = ("name", "version", "language")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    language: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., language: _Optional[str] = ...) -> None: ...

class Capability(_message.Message):
    __slots__ = ("name", "version", "max_concurrency", "input_schema_json", "idempotent", "description")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    INPUT_SCHEMA_JSON_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    max_concurrency: int
    input_schema_json: bytes
    idempotent: bool
    description: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., max_concurrency: _Optional[int] = ..., input_schema_json: _Optional[bytes] = ..., idempotent: bool = ..., description: _Optional[str] = ...) -> None: ...

class InventoryItem(_message.Message):
    __slots__ = ("ref", "state", "last_up_seq")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[InventoryItem.State]
        STATE_RUNNING: _ClassVar[InventoryItem.State]
        STATE_FINISHED: _ClassVar[InventoryItem.State]
    STATE_UNSPECIFIED: InventoryItem.State
    STATE_RUNNING: InventoryItem.State
    STATE_FINISHED: InventoryItem.State
    REF_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LAST_UP_SEQ_FIELD_NUMBER: _ClassVar[int]
    ref: _common_pb2.TaskRef
    state: InventoryItem.State
    last_up_seq: int
    def __init__(self, ref: _Optional[_Union[_common_pb2.TaskRef, _Mapping]] = ..., state: _Optional[_Union[InventoryItem.State, str]] = ..., last_up_seq: _Optional[int] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("n",)
    N_FIELD_NUMBER: _ClassVar[int]
    n: int
    def __init__(self, n: _Optional[int] = ...) -> None: ...

class TaskAccepted(_message.Message):
    __slots__ = ("ref",)
    REF_FIELD_NUMBER: _ClassVar[int]
    ref: _common_pb2.TaskRef
    def __init__(self, ref: _Optional[_Union[_common_pb2.TaskRef, _Mapping]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("ref", "ppm", "message")
    REF_FIELD_NUMBER: _ClassVar[int]
    PPM_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ref: _common_pb2.TaskRef
    ppm: int
    message: str
    def __init__(self, ref: _Optional[_Union[_common_pb2.TaskRef, _Mapping]] = ..., ppm: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class Partial(_message.Message):
    __slots__ = ("ref", "seq", "chunk")
    REF_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    ref: _common_pb2.TaskRef
    seq: int
    chunk: bytes
    def __init__(self, ref: _Optional[_Union[_common_pb2.TaskRef, _Mapping]] = ..., seq: _Optional[int] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class TaskResult(_message.Message):
    __slots__ = ("ref", "value", "confidence", "evidence", "usage", "credit")
    REF_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    ref: _common_pb2.TaskRef
    value: _common_pb2.Payload
    confidence: _common_pb2.Confidence
    evidence: _containers.RepeatedCompositeFieldContainer[_common_pb2.Evidence]
    usage: _common_pb2.TaskUsage
    credit: int
    def __init__(self, ref: _Optional[_Union[_common_pb2.TaskRef, _Mapping]] = ..., value: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., confidence: _Optional[_Union[_common_pb2.Confidence, _Mapping]] = ..., evidence: _Optional[_Iterable[_Union[_common_pb2.Evidence, _Mapping]]] = ..., usage: _Optional[_Union[_common_pb2.TaskUsage, _Mapping]] = ..., credit: _Optional[int] = ...) -> None: ...

class TaskFailed(_message.Message):
    __slots__ = ("ref", "code", "message", "retryable", "retry_after_ms", "credit")
    REF_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    ref: _common_pb2.TaskRef
    code: str
    message: str
    retryable: bool
    retry_after_ms: int
    credit: int
    def __init__(self, ref: _Optional[_Union[_common_pb2.TaskRef, _Mapping]] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., retryable: bool = ..., retry_after_ms: _Optional[int] = ..., credit: _Optional[int] = ...) -> None: ...

class CancelAck(_message.Message):
    __slots__ = ("ref", "outcome")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[CancelAck.Outcome]
        OUTCOME_STOPPED: _ClassVar[CancelAck.Outcome]
        OUTCOME_TOO_LATE: _ClassVar[CancelAck.Outcome]
        OUTCOME_UNKNOWN: _ClassVar[CancelAck.Outcome]
    OUTCOME_UNSPECIFIED: CancelAck.Outcome
    OUTCOME_STOPPED: CancelAck.Outcome
    OUTCOME_TOO_LATE: CancelAck.Outcome
    OUTCOME_UNKNOWN: CancelAck.Outcome
    REF_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ref: _common_pb2.TaskRef
    outcome: CancelAck.Outcome
    def __init__(self, ref: _Optional[_Union[_common_pb2.TaskRef, _Mapping]] = ..., outcome: _Optional[_Union[CancelAck.Outcome, str]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("lease_epoch", "inflight", "load_ppm")
    LEASE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    INFLIGHT_FIELD_NUMBER: _ClassVar[int]
    LOAD_PPM_FIELD_NUMBER: _ClassVar[int]
    lease_epoch: int
    inflight: int
    load_ppm: int
    def __init__(self, lease_epoch: _Optional[int] = ..., inflight: _Optional[int] = ..., load_ppm: _Optional[int] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("deadline_ms",)
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    deadline_ms: int
    def __init__(self, deadline_ms: _Optional[int] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    def __init__(self, nonce: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("session_id", "lease_epoch", "ttl_ms", "proto_version", "features", "limits", "verdicts")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    PROTO_VERSION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    lease_epoch: int
    ttl_ms: int
    proto_version: int
    features: _containers.RepeatedScalarFieldContainer[str]
    limits: Limits
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    def __init__(self, session_id: _Optional[str] = ..., lease_epoch: _Optional[int] = ..., ttl_ms: _Optional[int] = ..., proto_version: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., verdicts: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_frame_bytes", "max_inline_bytes", "max_blob_bytes", "partial_window_bytes", "max_credit")
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_INLINE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BLOB_BYTES_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_WINDOW_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_CREDIT_FIELD_NUMBER: _ClassVar[int]
    max_frame_bytes: int
    max_inline_bytes: int
    max_blob_bytes: int
    partial_window_bytes: int
    max_credit: int
    def __init__(self, max_frame_bytes: _Optional[int] = ..., max_inline_bytes: _Optional[int] = ..., max_blob_bytes: _Optional[int] = ..., partial_window_bytes: _Optional[int] = ..., max_credit: _Optional[int] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("ref", "keep", "send_result", "cancel", "forget")
    REF_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    SEND_RESULT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    ref: _common_pb2.TaskRef
    keep: Keep
    send_result: SendResult
    cancel: CancelVerdict
    forget: Forget
    def __init__(self, ref: _Optional[_Union[_common_pb2.TaskRef, _Mapping]] = ..., keep: _Optional[_Union[Keep, _Mapping]] = ..., send_result: _Optional[_Union[SendResult, _Mapping]] = ..., cancel: _Optional[_Union[CancelVerdict, _Mapping]] = ..., forget: _Optional[_Union[Forget, _Mapping]] = ...) -> None: ...

class Keep(_message.Message):
    __slots__ = ("after_seq",)
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    after_seq: int
    def __init__(self, after_seq: _Optional[int] = ...) -> None: ...

class SendResult(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CancelVerdict(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Forget(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Task(_message.Message):
    __slots__ = ("ref", "capability", "idempotency_key", "input", "deadline_unix_ms", "context", "time_left_ms")
    REF_FIELD_NUMBER: _ClassVar[int]
    CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TIME_LEFT_MS_FIELD_NUMBER: _ClassVar[int]
    ref: _common_pb2.TaskRef
    capability: str
    idempotency_key: str
    input: _common_pb2.Payload
    deadline_unix_ms: int
    context: _common_pb2.TaskContext
    time_left_ms: int
    def __init__(self, ref: _Optional[_Union[_common_pb2.TaskRef, _Mapping]] = ..., capability: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., input: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., deadline_unix_ms: _Optional[int] = ..., context: _Optional[_Union[_common_pb2.TaskContext, _Mapping]] = ..., time_left_ms: _Optional[int] = ...) -> None: ...

class ResultAck(_message.Message):
    __slots__ = ("ref",)
    REF_FIELD_NUMBER: _ClassVar[int]
    ref: _common_pb2.TaskRef
    def __init__(self, ref: _Optional[_Union[_common_pb2.TaskRef, _Mapping]] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("ref", "reason", "grace_ms")
    REF_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    ref: _common_pb2.TaskRef
    reason: str
    grace_ms: int
    def __init__(self, ref: _Optional[_Union[_common_pb2.TaskRef, _Mapping]] = ..., reason: _Optional[str] = ..., grace_ms: _Optional[int] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("ref", "id", "value")
    REF_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ref: _common_pb2.TaskRef
    id: str
    value: _common_pb2.Payload
    def __init__(self, ref: _Optional[_Union[_common_pb2.TaskRef, _Mapping]] = ..., id: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    def __init__(self, nonce: _Optional[int] = ...) -> None: ...

class PartialCredit(_message.Message):
    __slots__ = ("ref", "bytes")
    REF_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ref: _common_pb2.TaskRef
    bytes: int
    def __init__(self, ref: _Optional[_Union[_common_pb2.TaskRef, _Mapping]] = ..., bytes: _Optional[int] = ...) -> None: ...

class Goaway(_message.Message):
    __slots__ = ("reason", "message", "reconnect_after_ms")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Goaway.Reason]
        REASON_SHUTDOWN: _ClassVar[Goaway.Reason]
        REASON_SUPERSEDED: _ClassVar[Goaway.Reason]
        REASON_UNAUTHENTICATED: _ClassVar[Goaway.Reason]
        REASON_DRAINED: _ClassVar[Goaway.Reason]
        REASON_LEASE_EXPIRED: _ClassVar[Goaway.Reason]
        REASON_PROTOCOL_ERROR: _ClassVar[Goaway.Reason]
        REASON_REMOVED: _ClassVar[Goaway.Reason]
    REASON_UNSPECIFIED: Goaway.Reason
    REASON_SHUTDOWN: Goaway.Reason
    REASON_SUPERSEDED: Goaway.Reason
    REASON_UNAUTHENTICATED: Goaway.Reason
    REASON_DRAINED: Goaway.Reason
    REASON_LEASE_EXPIRED: Goaway.Reason
    REASON_PROTOCOL_ERROR: Goaway.Reason
    REASON_REMOVED: Goaway.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RECONNECT_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    reason: Goaway.Reason
    message: str
    reconnect_after_ms: int
    def __init__(self, reason: _Optional[_Union[Goaway.Reason, str]] = ..., message: _Optional[str] = ..., reconnect_after_ms: _Optional[int] = ...) -> None: ...
