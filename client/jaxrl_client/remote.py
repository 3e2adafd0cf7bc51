"""A policy and a robot at the other end of a channel, as functions. Each call has a deadline; none that moves anything is made twice."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message

from jaxrl_client import codec
from jaxrl_client.chunks import Chunk
from jaxrl_client.codec import Value, WireError
from jaxrl_client.control import Request, Seen
from jaxrl_client.protos import policy_pb2, robot_pb2, values_pb2
from jaxrl_client.spec import PolicySpec, RobotSpec, check_array, check_observation, policy_spec, robot_spec

M = TypeVar("M", bound=Message)
SPEC_DEADLINE = 5.0  # seconds


class CallError(Exception):
    """A call that brought nothing: refused, late, lost, or answered by what is no answer."""


class Refused(CallError):
    """A command that the robot got and does not follow."""


class Policy(NamedTuple):
    """What answers with chunks. Functions raise CallError."""

    spec: PolicySpec
    reset: Callable[[int, Mapping[str, str], float], None]  # (epoch, texts, seconds): a new episode
    infer: Callable[[Request, Mapping[str, Value | str], float], Chunk]  # (request, observation, seconds)


class Shown(NamedTuple):
    """What a robot showed."""

    seen: Seen
    observation: Mapping[str, Value | str]
    ready: bool  # whether it takes commands of a policy
    operator: bool  # whether it takes those of a person
    reason: str  # why it is not ready
    stamp: values_pb2.Stamp  # of the robot's clock, which a command that rests on this bears


class Robot(NamedTuple):
    """What shows and is moved. Functions raise CallError."""

    spec: RobotSpec
    observe: Callable[[float], Shown]  # (seconds)
    command: Callable[[np.ndarray, Shown, float], None]  # (target [D], what it rests on, seconds)
    stop: Callable[[str, float], None]  # (reason, seconds)


class _Line:
    """Calls of one service under one session."""

    def __init__(self, channel: grpc.Channel, service: Any) -> None:
        self._calls = {
            method.name: channel.unary_unary(f"/{service.full_name}/{method.name}", _bytes_of, None) for method in service.methods
        }
        self._lock = threading.Lock()
        self._sequence = 0
        self.session = secrets.token_hex(8)
        self.hashes = (b"", b"")

    def header(self, message: Any) -> None:
        with self._lock:
            self._sequence += 1
            sequence = self._sequence
        stamp(message.header.sent)
        message.header.revision, message.header.session, message.header.sequence = 1, self.session, sequence
        message.header.model_hash, message.header.spec_hash = self.hashes

    def call(self, name: str, message: Message | bytes, kind: type[M], seconds: float) -> M:
        """The answer; raises CallError."""
        try:
            answer = codec.parse(kind, self._calls[name](message, timeout=max(seconds, 1e-3)))
            codec.check_header(answer.header)
        except grpc.RpcError as error:
            raise CallError(f"{name}: {error.code().name}: {error.details()}") from None
        except WireError as error:
            raise CallError(f"{name}: {error}") from None
        if self.hashes[1] and answer.header.spec_hash != self.hashes[1]:
            raise CallError(f"{name}: the answer is of another spec; the other side was changed: connect anew")
        return answer


def _bytes_of(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def stamp(into: values_pb2.Stamp) -> None:
    """Now, by both clocks of this machine."""
    into.monotonic_ns, into.wall_ns = time.monotonic_ns(), time.time_ns()


def remote_policy(channel: grpc.Channel, seconds: float = SPEC_DEADLINE) -> Policy:
    """The policy behind a channel; raises CallError."""
    line = _Line(channel, policy_pb2.DESCRIPTOR.services_by_name["PolicyService"])
    asked = policy_pb2.PolicySpecRequest()
    line.header(asked)
    answer = line.call("GetSpec", asked, policy_pb2.PolicySpec, seconds)
    try:
        spec = policy_spec(answer)
    except WireError as error:
        raise CallError(f"GetSpec: {error}") from None
    line.hashes = (answer.header.model_hash, answer.header.spec_hash)

    def reset(epoch: int, texts: Mapping[str, str], seconds: float) -> None:
        message = policy_pb2.ResetRequest(epoch=epoch, seed=secrets.randbits(63))
        line.header(message)
        for name, value in texts.items():
            message.texts.add(name=name, value=value)
        reply = line.call("Reset", message, policy_pb2.ResetReply, seconds)
        if reply.epoch != epoch:
            raise CallError(f"Reset: the answer is to epoch {reply.epoch}, not {epoch}")

    def infer(request: Request, observation: Mapping[str, Value | str], seconds: float) -> Chunk:
        message = policy_pb2.InferRequest(epoch=request.epoch, step=request.step, budget_ms=max(round(1e3 * seconds), 1))
        line.header(message)
        message.captured.monotonic_ns = round(1e9 * request.captured)
        names = {array.name for array in spec.observation} | set(spec.texts)
        read = {name: value for name, value in observation.items() if name in names}
        if request.prefix is not None and spec.takes_prefix:
            codec.encode("prefix", request.prefix.astype(spec.action.dtype), message.prefix.actions)
            message.prefix.known, message.prefix.delay = request.known, request.delay
        try:
            check_observation(read, spec)
            data = codec.serialize_with(message, "observation", read)
        except WireError as error:
            raise CallError(f"Infer: {error}") from None
        reply = line.call("Infer", data, policy_pb2.InferReply, seconds)
        if (reply.request, reply.epoch, reply.step) != (message.header.sequence, request.epoch, request.step):
            raise CallError(f"Infer: the answer is to request {reply.request}, not {message.header.sequence}")
        try:
            actions = codec.decode(reply.actions)
            check_array(actions, spec.action, (spec.horizon,))
        except WireError as error:
            raise CallError(f"Infer: {error}") from None
        return Chunk(request.number, reply.epoch, int(reply.step), request.captured, np.asarray(actions))

    return Policy(spec, reset, infer)


def remote_robot(channel: grpc.Channel, seconds: float = SPEC_DEADLINE) -> Robot:
    """The robot behind a channel; raises CallError."""
    line = _Line(channel, robot_pb2.DESCRIPTOR.services_by_name["RobotService"])
    asked = robot_pb2.RobotSpecRequest()
    line.header(asked)
    answer = line.call("GetSpec", asked, robot_pb2.RobotSpec, seconds)
    try:
        spec = robot_spec(answer)
    except WireError as error:
        raise CallError(f"GetSpec: {error}") from None
    line.hashes = (answer.header.model_hash, answer.header.spec_hash)

    def observe(seconds: float) -> Shown:
        message = robot_pb2.ObserveRequest()
        line.header(message)
        before = time.monotonic()
        state = line.call("Observe", message, robot_pb2.RobotState, seconds)
        # How old it was when it was sent, by the robot's clock, on top of when this computer asked: at least as old as it is.
        age = max(state.header.sent.monotonic_ns - state.captured.monotonic_ns, 0) / 1e9
        try:
            position = codec.decode(state.position)
            check_array(position, spec.action)
            observation = codec.decode_observation(state.observation)
        except WireError as error:
            raise CallError(f"Observe: {error}") from None
        ready = state.mode == robot_pb2.READY
        reason = "" if ready else state.reason or robot_pb2.Mode.Name(state.mode)
        seen = Seen(before - age, np.asarray(position, np.float64))
        return Shown(seen, observation, ready, state.mode == robot_pb2.OPERATOR, reason, state.captured)

    def command(target: np.ndarray, shown: Shown, seconds: float) -> None:
        message = robot_pb2.CommandRequest()
        line.header(message)
        codec.encode("target", target.astype(spec.action.dtype), message.target)
        message.seen.CopyFrom(shown.stamp)
        reply = line.call("Command", message, robot_pb2.CommandReply, seconds)
        if reply.refusal != robot_pb2.REFUSAL_UNSPECIFIED:
            raise Refused(f"Command: {robot_pb2.Refusal.Name(reply.refusal)}: {reply.text}")

    def stop(reason: str, seconds: float) -> None:
        message = robot_pb2.StopRequest(reason=reason)
        line.header(message)
        line.call("Stop", message, robot_pb2.ModeReply, seconds)

    return Robot(spec, observe, command, stop)
