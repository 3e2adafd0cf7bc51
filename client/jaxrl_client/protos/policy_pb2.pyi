from jaxrl_client.protos import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PolicySpecRequest(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ...) -> None: ...

class PolicySpec(_message.Message):
    __slots__ = ("header", "name", "profile", "observation", "texts", "action", "horizon", "executed_steps", "rate_hz", "takes_prefix")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    HORIZON_FIELD_NUMBER: _ClassVar[int]
    EXECUTED_STEPS_FIELD_NUMBER: _ClassVar[int]
    RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    TAKES_PREFIX_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    name: str
    profile: str
    observation: _containers.RepeatedCompositeFieldContainer[_values_pb2.ArraySpec]
    texts: _containers.RepeatedScalarFieldContainer[str]
    action: _values_pb2.ArraySpec
    horizon: int
    executed_steps: int
    rate_hz: float
    takes_prefix: bool
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ..., name: _Optional[str] = ..., profile: _Optional[str] = ..., observation: _Optional[_Iterable[_Union[_values_pb2.ArraySpec, _Mapping]]] = ..., texts: _Optional[_Iterable[str]] = ..., action: _Optional[_Union[_values_pb2.ArraySpec, _Mapping]] = ..., horizon: _Optional[int] = ..., executed_steps: _Optional[int] = ..., rate_hz: _Optional[float] = ..., takes_prefix: bool = ...) -> None: ...

class ResetRequest(_message.Message):
    __slots__ = ("header", "epoch", "seed", "texts")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    epoch: int
    seed: int
    texts: _containers.RepeatedCompositeFieldContainer[_values_pb2.Text]
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ..., epoch: _Optional[int] = ..., seed: _Optional[int] = ..., texts: _Optional[_Iterable[_Union[_values_pb2.Text, _Mapping]]] = ...) -> None: ...

class ResetReply(_message.Message):
    __slots__ = ("header", "epoch")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    epoch: int
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ..., epoch: _Optional[int] = ...) -> None: ...

class Prefix(_message.Message):
    __slots__ = ("actions", "known", "delay")
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    actions: _values_pb2.Tensor
    known: int
    delay: int
    def __init__(self, actions: _Optional[_Union[_values_pb2.Tensor, _Mapping]] = ..., known: _Optional[int] = ..., delay: _Optional[int] = ...) -> None: ...

class InferRequest(_message.Message):
    __slots__ = ("header", "epoch", "step", "captured", "observation", "prefix", "budget_ms")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    epoch: int
    step: int
    captured: _values_pb2.Stamp
    observation: _values_pb2.Observation
    prefix: Prefix
    budget_ms: int
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ..., epoch: _Optional[int] = ..., step: _Optional[int] = ..., captured: _Optional[_Union[_values_pb2.Stamp, _Mapping]] = ..., observation: _Optional[_Union[_values_pb2.Observation, _Mapping]] = ..., prefix: _Optional[_Union[Prefix, _Mapping]] = ..., budget_ms: _Optional[int] = ...) -> None: ...

class InferReply(_message.Message):
    __slots__ = ("header", "request", "epoch", "step", "captured", "actions", "prefix_used", "queue_us", "inference_us")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_USED_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_US_FIELD_NUMBER: _ClassVar[int]
    header: _values_pb2.Header
    request: int
    epoch: int
    step: int
    captured: _values_pb2.Stamp
    actions: _values_pb2.Tensor
    prefix_used: int
    queue_us: int
    inference_us: int
    def __init__(self, header: _Optional[_Union[_values_pb2.Header, _Mapping]] = ..., request: _Optional[int] = ..., epoch: _Optional[int] = ..., step: _Optional[int] = ..., captured: _Optional[_Union[_values_pb2.Stamp, _Mapping]] = ..., actions: _Optional[_Union[_values_pb2.Tensor, _Mapping]] = ..., prefix_used: _Optional[int] = ..., queue_us: _Optional[int] = ..., inference_us: _Optional[int] = ...) -> None: ...
