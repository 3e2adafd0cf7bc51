"""What a policy reads and writes, what a robot shows and takes, and whether the two fit. Hashes of it are in every message.

The same number of dimensions is no sign that two parts mean the same by them: names, units, rate and profile are compared too.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from jaxrl_client import codec
from jaxrl_client.codec import CAPS, WireError
from jaxrl_client.limits import Limits
from jaxrl_client.protos import policy_pb2, robot_pb2, values_pb2

RATE = 1e-3  # relative difference of two rates that counts as none


@dataclass(frozen=True)
class ArraySpec:
    """One named array of one step: as `jaxrl.types.ArraySpec`, with one unit, `low` and `high` for all, or for each name."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    names: tuple[str, ...] = ()  # of the last axis
    units: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        codec.dtype_number(self.dtype)
        if not self.name or len(self.name) > CAPS.name:
            raise WireError(f"name: {self.name[: CAPS.name]!r} is not 1 to {CAPS.name} characters")
        if any(size < 1 for size in self.shape) or len(self.shape) > CAPS.rank or math.prod(self.shape) > CAPS.message_bytes:
            raise WireError(f"{self.name}: shape is {self.shape}, expected at most {CAPS.rank} sizes from 1")
        last = self.shape[-1] if self.shape else 1
        if len(self.names) not in (0, last):
            raise WireError(f"{self.name}: has {len(self.names)} names, but its last axis {last} entries")
        for field in ("units", "low", "high"):
            if len(getattr(self, field)) not in (0, 1, last):
                raise WireError(f"{self.name}: {field} has {len(getattr(self, field))} entries, expected none, one or {last}")
        for low, high in zip(self.of_each("low", last), self.of_each("high", last), strict=True):
            if not low <= high:
                raise WireError(f"{self.name}: low {low} is not up to high {high}")

    def of_each(self, field: str, count: int) -> tuple[float, ...]:
        """`low` or `high` for each of `count` entries; infinite where there is none."""
        values: tuple[float, ...] = getattr(self, field) or ((-math.inf,) if field == "low" else (math.inf,))
        return values if len(values) == count else values * count


@dataclass(frozen=True)
class PolicySpec:
    """What a policy reads and writes."""

    name: str
    observation: tuple[ArraySpec, ...]
    action: ArraySpec  # of one step
    horizon: int
    rate: float  # of steps [Hz]
    texts: tuple[str, ...] = ()
    profile: str = ""  # what the numbers mean beyond their units: "joint_position_absolute"
    executed_steps: int = 1
    takes_prefix: bool = False

    def __post_init__(self) -> None:
        if self.horizon < 1 or not 1 <= self.executed_steps <= self.horizon:
            raise WireError(f"{self.name}: executes {self.executed_steps} of {self.horizon} steps, expected 1 up to the horizon")
        _check_rate(self.name, self.rate)
        _check_action(self.name, self.action)


@dataclass(frozen=True)
class RobotSpec:
    """What a robot shows and takes."""

    name: str
    observation: tuple[ArraySpec, ...]
    action: ArraySpec
    rate: float  # at which it takes commands [Hz]
    watchdog_ms: int  # without a command after which it stops by itself
    profile: str = ""
    velocity: tuple[float, ...] = ()  # per second, of each action; () where it has none
    acceleration: tuple[float, ...] = ()
    jerk: tuple[float, ...] = ()
    simulated: bool = False

    def __post_init__(self) -> None:
        _check_rate(self.name, self.rate)
        _check_action(self.name, self.action)
        if self.watchdog_ms < 1:
            raise WireError(f"{self.name}: watchdog_ms is {self.watchdog_ms}; what never stops by itself is not driven over a network")
        for field in ("velocity", "acceleration", "jerk"):
            values = getattr(self, field)
            if len(values) not in (0, self.action.shape[-1]) or not all(value > 0 for value in values):
                raise WireError(f"{self.name}: {field} is {values}, expected {self.action.shape[-1]} positive numbers, or none")


def spec_hash(spec: PolicySpec | RobotSpec) -> bytes:
    """The sha256 of all that a spec says; the same on every machine."""
    return hashlib.sha256(json.dumps([type(spec).__name__, _plain(asdict(spec))], sort_keys=True).encode()).digest()


def _plain(value: Any) -> Any:
    """`value` with every number as a float: 0 and 0.0 are the same limit."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, (str, bool)) else float(value)


def differences(policy: PolicySpec, robot: RobotSpec) -> list[str]:
    """Why this policy must not drive this robot, one line each; [] where it may."""
    found = _array_differences("action", policy.action, robot.action)
    shown = {spec.name: spec for spec in robot.observation}
    for spec in policy.observation:
        if spec.name in shown:
            found += _array_differences(spec.name, spec, shown[spec.name])
        else:
            found.append(f"{spec.name}: the policy reads it, but the robot shows {', '.join(shown) or 'nothing'}")
    if abs(policy.rate - robot.rate) > RATE * robot.rate:
        found.append(f"rate: the policy's steps are of {policy.rate:g} Hz, the robot's of {robot.rate:g} Hz")
    if policy.profile != robot.profile:
        found.append(f"profile: the policy's is {policy.profile!r}, the robot's {robot.profile!r}")
    return found


def limit_differences(limits: Limits, robot: RobotSpec) -> list[str]:
    """Why a filter with these limits must not command this robot; [] where it may."""
    size, found = robot.action.shape[-1], []
    if abs(1 / limits.period - robot.rate) > RATE * robot.rate:
        found.append(f"period: the limits are of {1 / limits.period:g} Hz, the robot of {robot.rate:g} Hz, so its speeds would be others")
    if len(limits.names) != size or (robot.action.names and robot.action.names != limits.names):
        return [*found, f"names: the limits are of {limits.names}, the robot's action is {robot.action.names or size}"]
    declared = {"lower": robot.action.of_each("low", size), "upper": robot.action.of_each("high", size)}
    declared |= {field: getattr(robot, field) for field in ("velocity", "acceleration", "jerk") if getattr(robot, field)}
    for field, allowed in declared.items():
        for name, ours, theirs in zip(limits.names, limits.of_each(field), allowed, strict=True):
            if (ours < theirs) if field == "lower" else (ours > theirs):
                found.append(f"{name}: {field} is {ours:g}, beyond the robot's own {theirs:g}")
    return found


def _array_differences(name: str, policy: ArraySpec, robot: ArraySpec) -> list[str]:
    fields = ("shape", "dtype", "names", "units")
    return [
        f"{name}: {field} is {getattr(policy, field)} for the policy, {getattr(robot, field)} for the robot"
        for field in fields
        if getattr(policy, field) != getattr(robot, field)
    ]


def _check_rate(name: str, rate: float) -> None:
    if not 0 < rate < math.inf:
        raise WireError(f"{name}: rate is {rate} Hz, expected a positive number")


def _check_action(name: str, action: ArraySpec) -> None:
    if len(action.shape) != 1:
        raise WireError(f"{name}: an action of the shape {action.shape} cannot be commanded, expected one axis")


def to_message(spec: PolicySpec | RobotSpec, header: values_pb2.Header) -> policy_pb2.PolicySpec | robot_pb2.RobotSpec:
    """A spec as it travels; `header` says by whom, and gets its hash."""
    header.spec_hash = spec_hash(spec)
    observation = [_array_message(array) for array in spec.observation]
    common: dict[str, Any] = dict(
        header=header, name=spec.name, profile=spec.profile, observation=observation, action=_array_message(spec.action), rate_hz=spec.rate
    )
    if isinstance(spec, PolicySpec):
        return policy_pb2.PolicySpec(
            **common,
            texts=spec.texts,
            horizon=spec.horizon,
            executed_steps=spec.executed_steps,
            takes_prefix=spec.takes_prefix,
        )
    return robot_pb2.RobotSpec(
        **common,
        velocity=spec.velocity,
        acceleration=spec.acceleration,
        jerk=spec.jerk,
        watchdog_ms=spec.watchdog_ms,
        simulated=spec.simulated,
    )


def policy_spec(message: policy_pb2.PolicySpec) -> PolicySpec:
    """The spec of a message.

    Raises:
        WireError: something in it is not as it has to be, or its hash is not that of the rest.
    """
    spec = PolicySpec(
        name=message.name,
        observation=_arrays(message.observation),
        action=_array(message.action),
        horizon=message.horizon,
        rate=message.rate_hz,
        texts=tuple(message.texts),
        profile=message.profile,
        executed_steps=message.executed_steps,
        takes_prefix=message.takes_prefix,
    )
    _check_hash(spec, message.header)
    return spec


def robot_spec(message: robot_pb2.RobotSpec) -> RobotSpec:
    """The same of a robot."""
    spec = RobotSpec(
        name=message.name,
        observation=_arrays(message.observation),
        action=_array(message.action),
        rate=message.rate_hz,
        watchdog_ms=message.watchdog_ms,
        profile=message.profile,
        velocity=tuple(message.velocity),
        acceleration=tuple(message.acceleration),
        jerk=tuple(message.jerk),
        simulated=message.simulated,
    )
    _check_hash(spec, message.header)
    return spec


def _check_hash(spec: PolicySpec | RobotSpec, header: values_pb2.Header) -> None:
    if header.spec_hash != spec_hash(spec):
        raise WireError(
            f"{spec.name}: header.spec_hash is {header.spec_hash.hex()[:12]}, but that of this spec {spec_hash(spec).hex()[:12]}"
        )


def _array_message(spec: ArraySpec) -> values_pb2.ArraySpec:
    return values_pb2.ArraySpec(
        name=spec.name,
        dtype=codec.dtype_number(spec.dtype),
        shape=spec.shape,
        names=spec.names,
        units=spec.units,
        low=spec.low,
        high=spec.high,
    )


def _array(message: values_pb2.ArraySpec) -> ArraySpec:
    return ArraySpec(
        name=message.name,
        shape=tuple(message.shape),
        dtype=codec.dtype_name(message.dtype),
        names=tuple(message.names),
        units=tuple(message.units),
        low=tuple(message.low),
        high=tuple(message.high),
    )


def _arrays(messages: Iterable[values_pb2.ArraySpec]) -> tuple[ArraySpec, ...]:
    arrays = tuple(_array(message) for message in messages)
    names = [array.name for array in arrays]
    if len(set(names)) < len(names) or len(names) > CAPS.tensors:
        raise WireError(f"observation: {names[: CAPS.tensors]} are more than {CAPS.tensors}, or some are there twice")
    return arrays


def check_observation(seen: dict[str, codec.Value | str], spec: PolicySpec) -> None:
    """Raises WireError: something that the policy reads is missing, unknown, or of another shape or dtype."""
    arrays = {array.name: array for array in spec.observation}
    for name in (*arrays, *spec.texts):
        if name not in seen:
            raise WireError(f"{name}: is missing; the policy reads {', '.join((*arrays, *spec.texts))}")
    for name, value in seen.items():
        if isinstance(value, str) != (name in spec.texts) or (name not in arrays and name not in spec.texts):
            raise WireError(f"{name}: the policy reads no such thing; it reads {', '.join((*arrays, *spec.texts))}")
        if not isinstance(value, str):
            check_array(value, arrays[name])


def check_array(value: codec.Value, spec: ArraySpec, leading: tuple[int, ...] = ()) -> None:
    """Raises WireError: the array has not the dtype of `spec`, or not its shape behind the axes `leading`."""
    shape, dtype = ((value.height, value.width, 3), "uint8") if isinstance(value, codec.Jpeg) else (value.shape, value.dtype.name)
    if (shape, dtype) != ((*leading, *spec.shape), spec.dtype):
        raise WireError(f"{spec.name}: is {dtype} {shape}, expected {spec.dtype} {(*leading, *spec.shape)}")
