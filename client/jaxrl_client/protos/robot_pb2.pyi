from jaxrl_client.protos import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    READY: _ClassVar[Mode]
    OPERATOR: _ClassVar[Mode]
    STOPPING: _ClassVar[Mode]
    LATCHED: _ClassVar[Mode]

class Refusal(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFUSAL_UNSPECIFIED: _ClassVar[Refusal]
    NOT_READY: _ClassVar[Refusal]
    OLD: _ClassVar[Refusal]
    NOT_FINITE: _ClassVar[Refusal]
    WRONG_SHAPE: _ClassVar[Refusal]
    OUT_OF_LIMITS: _ClassVar[Refusal]
    WRONG_SPEC: _ClassVar[Refusal]
    BUSY: _ClassVar[Refusal]
MODE_UNSPECIFIED: Mode
READY: Mode
OPERATOR: Mode
STOPPING: Mode
LATCHED: Mode
REFUSAL_UNSPECIFIED: Refusal
NOT_READY: Refusal
OLD: Refusal
NOT_FINITE: Refusal
WRONG_SHAPE: Refusal
OUT_OF_LIMITS: Refusal
WRONG_SPEC: Refusal
BUSY: Refusal

class RobotSpecRequest(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ...) -> None: ...

class RobotSpec(_message.Message):
    __slots__ = ("header", "name", "profile", "observation", "action", "rate_hz", "velocity", "acceleration", "jerk", "watchdog_ms", "simulated")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    VELOCITY_FIELD_NUMBER: _ClassVar[int]
    ACCELERATION_FIELD_NUMBER: _ClassVar[int]
    JERK_FIELD_NUMBER: _ClassVar[int]
    WATCHDOG_MS_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    name: str
    profile: str
    observation: _containers.RepeatedCompositeFieldContainer[_values_pb2.ArraySpec]
    action: _values_pb2.ArraySpec
    rate_hz: float
    velocity: _containers.RepeatedScalarFieldContainer[float]
    acceleration: _containers.RepeatedScalarFieldContainer[float]
    jerk: _containers.RepeatedScalarFieldContainer[float]
    watchdog_ms: int
    simulated: bool
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ..., name: _Optional[str] = ..., profile: _Optional[str] = ..., observation: _Optional[_Iterable[_Union[_values_pb2.ArraySpec, _Mapping]]] = ..., action: _Optional[_Union[_values_pb2.ArraySpec, _Mapping]] = ..., rate_hz: _Optional[float] = ..., velocity: _Optional[_Iterable[float]] = ..., acceleration: _Optional[_Iterable[float]] = ..., jerk: _Optional[_Iterable[float]] = ..., watchdog_ms: _Optional[int] = ..., simulated: bool = ...) -> None: ...

class ObserveRequest(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ...) -> None: ...

class RobotState(_message.Message):
    __slots__ = ("header", "captured", "observation", "position", "mode", "reason", "accepted", "commanded")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    COMMANDED_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    captured: _values_pb2.Stamp
    observation: _values_pb2.Observation
    position: _values_pb2.Tensor
    mode: Mode
    reason: str
    accepted: int
    commanded: _values_pb2.Tensor
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ..., captured: _Optional[_Union[_values_pb2.Stamp, _Mapping]] = ..., observation: _Optional[_Union[_values_pb2.Observation, _Mapping]] = ..., position: _Optional[_Union[_values_pb2.Tensor, _Mapping]] = ..., mode: _Optional[_Union[Mode, str]] = ..., reason: _Optional[str] = ..., accepted: _Optional[int] = ..., commanded: _Optional[_Union[_values_pb2.Tensor, _Mapping]] = ...) -> None: ...

class CommandRequest(_message.Message):
    __slots__ = ("header", "target", "seen", "valid_ms", "operator")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    VALID_MS_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    target: _values_pb2.Tensor
    seen: _values_pb2.Stamp
    valid_ms: int
    operator: bool
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ..., target: _Optional[_Union[_values_pb2.Tensor, _Mapping]] = ..., seen: _Optional[_Union[_values_pb2.Stamp, _Mapping]] = ..., valid_ms: _Optional[int] = ..., operator: bool = ...) -> None: ...

class CommandReply(_message.Message):
    __slots__ = ("header", "refusal", "text", "mode")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    refusal: Refusal
    text: str
    mode: Mode
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, str]] = ..., text: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ...) -> None: ...

class StopRequest(_message.Message):
    __slots__ = ("header", "reason")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    reason: str
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class OperatorRequest(_message.Message):
    __slots__ = ("header", "operator", "reason")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    operator: str
    reason: str
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ..., operator: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ModeReply(_message.Message):
    __slots__ = ("header", "mode", "reason")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    mode: Mode
    reason: str
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ..., mode: _Optional[_Union[Mode, str]] = ..., reason: _Optional[str] = ...) -> None: ...
