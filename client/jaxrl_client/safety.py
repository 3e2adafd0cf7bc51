"""The safety filter: what is commanded can be followed and stopped, whatever a policy says, and a fault stops the robot for good.

Not a safety-rated function. It shapes commands on an ordinary computer; what protects people is the robot's own safety controller and a
hardware emergency stop.

Pure functions over a `State`; the clock is an argument, monotonic seconds of this computer. Every fault stops the robot along the plan that
the limiter keeps ready, and latches: nothing but `reset`, which only an operator calls, has it move again.
"""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxrl_client.limiter import Motion, bounds, limiter
from jaxrl_client.limits import Limits

ForwardKinematics = Callable[[np.ndarray], np.ndarray]  # positions [N, D] -> points [N, P, 3] that have to stay in the box
_SAMPLES = 512  # of a stop, which are held against the box: all of its steps, where it has fewer


class Mode(enum.Enum):
    """What the filter does."""

    RUNNING = "running"
    STOPPING = "stopping"
    LATCHED = "latched"  # stands still, until an operator resets it


class Fault(enum.Enum):
    """Why a robot was stopped; the first one counts."""

    NONE = "none"
    NOT_FINITE = "target is not finite"
    WRONG_SHAPE = "target has another shape"
    STALE = "target was decided by what is too old"
    STARVED = "no target in time"
    STALLED = "this computer was not there in time"
    CLOCK = "the monotonic clock did not go forward"
    EFFORT = "force or torque above its limit"
    TRACKING = "the robot is not where it was commanded to be"
    SENSOR = "what was measured is not finite, or has another shape"
    REQUESTED = "a stop was asked for"
    ROBOT = "the robot's driver is gone, or refuses commands"


class Target(NamedTuple):
    """Where the joints are to go."""

    position: np.ndarray  # [D]
    captured: float  # when the oldest part of what it was decided by was seen


class Measured(NamedTuple):
    """What the robot feels; None where it does not tell."""

    position: np.ndarray | None = None  # [D]
    effort: np.ndarray | None = None  # [D]


NOTHING = Measured()


class State(NamedTuple):
    """All that the filter remembers."""

    motion: Motion
    mode: Mode
    fault: Fault
    detail: str  # the fault in numbers
    fresh: float  # when there was last a target
    last: float  # when it was last asked
    goal: np.ndarray  # [D], the last target


class Decision(NamedTuple):
    """What is commanded, and why it is not what was asked for."""

    command: np.ndarray  # [D]
    mode: Mode
    fault: Fault
    detail: str
    limited: np.ndarray  # [D] int, bits of jaxrl_client.limiter: what the target would have broken
    held: bool  # whether the last target was held, for there was no new one
    outside: bool  # whether the way to the target leaves the box, before which the robot stops
    age: float  # seconds since `captured`; nan without a target


class Filter(NamedTuple):
    """Pure functions of one robot's limits."""

    start: Callable[[np.ndarray, float], State]  # (position [D], now)
    step: Callable[..., tuple[State, Decision]]  # (state, now, target or None, measured=NOTHING, stop=Fault.NONE)
    reset: Callable[[State, np.ndarray, float], State]  # (state, position [D], now): an operator's


def safety(limits: Limits, forward_kinematics: ForwardKinematics | None = None) -> Filter:
    """The filter of these limits.

    Raises:
        ValueError: the limits have a box, but there is no forward kinematics, or the other way round; of `start` and `reset`: the position
            is none, or outside of the box, or the robot has not come to a standstill.
    """
    if (limits.box is None) != (forward_kinematics is None):
        raise ValueError("a box needs forward kinematics, positions [N, D] -> points [N, P, 3], and these a box: give both or neither")
    given = bounds(limits)
    shaped = limiter(given)
    count = len(limits.names)
    effort, tracking = (np.array(limits.of_each(field)) for field in ("effort", "tracking"))

    def start(position: np.ndarray, now: float) -> State:
        position = np.array(position, np.float64)
        if position.shape != (count,) or not np.isfinite(position).all():
            raise ValueError(f"the measured position is {position.tolist()}, expected {count} finite numbers")
        if not _in_box(position[None]):
            raise ValueError(f"the robot is outside of the box {limits.box}; move it back by hand")
        return State(shaped.start(position), Mode.RUNNING, Fault.NONE, "", now, now, position)

    def reset(state: State, position: np.ndarray, now: float) -> State:
        if state.mode != Mode.LATCHED:
            raise ValueError(f"the filter is {state.mode.value}; only what has come to a standstill and latched is reset")
        return start(position, now)

    def step(
        state: State, now: float, target: Target | None, measured: Measured = NOTHING, stop: Fault = Fault.NONE
    ) -> tuple[State, Decision]:
        fault, detail = state.fault, state.detail
        age = now - target.captured if target is not None else float("nan")
        useful = target if target is not None and 0 <= age <= limits.max_age else None
        if fault == Fault.NONE:
            fault, detail = _fault(state, now, target, useful, age, measured, stop)
        goal, fresh = state.goal, state.fresh
        if fault == Fault.NONE and useful is not None:
            goal, fresh = np.array(useful.position, np.float64), now
        motion, said = shaped.step(state.motion, goal, fault != Fault.NONE)
        outside = fault == Fault.NONE and not _in_box(_way(motion))
        if outside:
            motion, said = shaped.step(state.motion, goal, True)
        stands = bool(said.standstill.all())
        mode = Mode.RUNNING if fault == Fault.NONE else Mode.LATCHED if stands or state.mode == Mode.LATCHED else Mode.STOPPING
        limited = np.asarray(said.limited)
        decision = Decision(said.position, mode, fault, detail, limited, fault == Fault.NONE and useful is None, outside, age)
        return State(motion, mode, fault, detail, fresh, now, goal), decision

    def _fault(
        state: State, now: float, target: Target | None, useful: Target | None, age: float, measured: Measured, stop: Fault
    ) -> tuple[Fault, str]:
        """The first thing that is wrong, in the order of how little it is to be doubted."""
        gap = now - state.last
        if stop != Fault.NONE:
            return stop, ""
        if not gap > 0:
            return Fault.CLOCK, f"{gap:.3g} s since the last step"
        if gap > limits.stall:
            return Fault.STALLED, f"{gap:.3g} s since the last step, at most {limits.stall:g} are allowed"
        for name, value in (("position", measured.position), ("effort", measured.effort)):
            if value is not None and (np.shape(value) != (count,) or not np.isfinite(value).all()):
                return Fault.SENSOR, f"{name} is {np.asarray(value).tolist()}"
        if measured.effort is not None and (np.abs(measured.effort) > effort).any():
            return Fault.EFFORT, _worst(np.abs(measured.effort), effort)
        if measured.position is not None and (np.abs(measured.position - state.motion.position) > tracking).any():
            return Fault.TRACKING, _worst(np.abs(measured.position - state.motion.position), tracking)
        if target is not None and np.shape(target.position) != (count,):
            return Fault.WRONG_SHAPE, f"{np.shape(target.position)}, expected {(count,)}"
        if target is not None and not np.isfinite(target.position).all():
            return Fault.NOT_FINITE, f"{np.asarray(target.position).tolist()}"
        if useful is None and now - state.fresh > limits.patience:
            waited = f"{now - state.fresh:.3g} s without a target, at most {limits.patience:g} are allowed"
            return (Fault.STARVED, waited) if target is None else (Fault.STALE, f"{age:.3g} s old; {waited}")
        return Fault.NONE, ""

    def _worst(found: np.ndarray, limit: np.ndarray) -> str:
        joint = int(np.argmax(found / limit))
        return f"{limits.names[joint]}: {found[joint]:.3g}, at most {limit[joint]:g} are allowed"

    def _way(motion: Motion) -> np.ndarray:
        """Positions [N, D] of the command and of the stop behind it."""
        return np.concatenate((motion.position[None], shaped.rest(motion) if limits.box else motion.position[None]))

    def _in_box(positions: np.ndarray) -> bool:
        if forward_kinematics is None or limits.box is None:
            return True
        few = np.unique(np.linspace(0, len(positions) - 1, _SAMPLES).round().astype(int))
        points = forward_kinematics(positions[few])
        low, high = (np.array(corner) for corner in limits.box)
        return bool(np.isfinite(points).all() and (points >= low).all() and (points <= high).all())

    return Filter(start, step, reset)


def why(decision: Decision) -> dict[str, Any]:
    """A decision as plain values, for a log."""
    return {
        "mode": decision.mode.value,
        "fault": decision.fault.name,
        "detail": decision.detail,
        "limited": decision.limited.tolist(),
        "held": decision.held,
        "outside": decision.outside,
        "age": decision.age,
    }
