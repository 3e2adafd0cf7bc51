"""Targets in, commands out that joints can follow: within position, velocity, acceleration and jerk, always with room left to stop.

Time is counted in periods: a command's velocity, acceleration and jerk are the differences of commands. A step that comes late makes the
motion slower, never faster. Each joint is on its own, so leading axes are free: [..., D], thousands of sequences at once.

How it is known that there is room to stop: with every command goes a plan of the rest, the accelerations that bring the joint to a
standstill, and a command is only given once its plan has been found to stay within all limits. Where no better one is found the plan of the
last is followed for another step, which has been checked already. So by induction there is always a way to stop, whatever the targets are.

A plan changes the acceleration evenly to -`level` in `first` steps, holds it for `hold` steps, and lets it go in a number of steps that is
the same for all plans of a joint. Where it ends and how fast it becomes are sums in closed form; nothing is simulated.

Written with the module `xp` that it is given: numpy on a robot, jax.numpy inside a simulation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxrl_client.limits import Limits

Array = Any

POSITION, VELOCITY, ACCELERATION, JERK, STOPPING = 1, 2, 4, 8, 16  # bits of `Step.limited`: what the target would have broken
_MARGIN = 1e-9  # of each limit, for rounding
_PASSED = 0.02  # of the longest step: how far a target may be passed where it comes to rest


class Bounds(NamedTuple):
    """Limits as arrays [D], or of any shape that fits the positions."""

    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array
    jerk: Array
    period: float


class Motion(NamedTuple):
    """All that a limiter remembers. Arrays [..., D]."""

    position: Array  # the last command
    velocity: Array
    acceleration: Array
    target: Array  # the last one, to tell how fast it moves
    lower: Array  # the bounds, or where a joint began outside of them
    upper: Array
    start: Array  # the plan: its first acceleration
    level: Array
    first: Array  # steps, as floats
    hold: Array
    passed: Array  # steps of it that have been followed


class Step(NamedTuple):
    """What came of a target."""

    position: Array  # the command
    limited: Array  # int, bits: what the target would have broken; 0 where it is the command
    standstill: Array  # bool


class Limiter(NamedTuple):
    """Pure functions of one set of limits."""

    start: Callable[[Array], Motion]  # where the joints are now, at rest
    step: Callable[..., tuple[Motion, Step]]  # (motion, target, brake=False [...]); what is not finite brakes its joint
    rest: Callable[[Motion], Array]  # positions [N, ..., D] of a stop from here on; numpy only


class _Stop(NamedTuple):
    level: Array
    first: Array
    hold: Array
    end: Array  # position
    low: Array  # of all positions
    high: Array
    fastest: Array  # of all absolute velocities


def bounds(limits: Limits) -> Bounds:
    """The limits of joints as arrays."""
    fields = ("lower", "upper", "velocity", "acceleration", "jerk")
    lower, upper, velocity, acceleration, jerk = (np.array(limits.of_each(field), np.float64) for field in fields)
    return Bounds(lower, upper, velocity, acceleration, jerk, limits.period)


def limiter(limits: Bounds, xp: Any = np, rounds: int = 2, branches: int = 40) -> Limiter:
    """The functions for these limits, which `bounds` makes of a robot's.

    An acceleration is searched for in `rounds` of `branches`: to a 1600th of what is possible. Fewer are quicker, and as safe.
    """
    period = limits.period
    most = limits.acceleration * (1 - _MARGIN)
    velocity = limits.velocity * (1 - _MARGIN)
    lower, upper = limits.lower + _MARGIN, limits.upper - _MARGIN
    smooth = np.isfinite(limits.jerk)
    change = np.where(smooth, limits.jerk * (1 - _MARGIN) * period, 1.0)  # of the acceleration, in a step
    ramped = np.where(smooth, most, 0.0)
    last = np.maximum(np.ceil(ramped / change), 1.0)  # steps in which a plan lets go
    beyond = velocity * period * _PASSED

    def plan(position: Array, speed: Array, acceleration: Array) -> _Stop:
        """How to stop from a state, the module's docstring in formulas."""
        first = xp.where(smooth, xp.maximum(xp.ceil((ramped + xp.abs(acceleration)) / change), 1.0), 1.0)
        impulse = speed / period + acceleration * (first - 1) / 2
        least = (first + last) / 2
        hold = xp.maximum(xp.ceil(xp.abs(impulse) / most - least), 0.0)
        level = impulse / (least + hold)
        steps, turn = first + hold + last, level + acceleration
        # The velocity turns where the acceleration does, which it does where it first goes on speeding up.
        speeding = acceleration * level > 0
        turning = xp.where(speeding, xp.ceil(first * acceleration / xp.where(speeding, turn, 1.0)) - 1, 0.0)
        peak = speed + period * (acceleration * turning - turn * turning * (turning + 1) / (2 * first))
        ramp = acceleration * first - turn * (first + 1) / 2
        moment = acceleration * first * (first + 1) / 2 - turn * (first + 1) * (2 * first + 1) / 6
        held = level * hold * (last + (hold + 1) / 2)
        sums = (steps + 1) * ramp - moment - held - level * (last**2 - 1) / 3
        end = position + period * (steps * speed + period * sums)
        way = position + period * xp.where(speeding & (speed * acceleration < 0), turning * speed, 0.0)  # at most, before it turns round
        low, high = xp.minimum(xp.minimum(position, end), way), xp.maximum(xp.maximum(position, end), way)
        return _Stop(level, first, hold, end, low, high, xp.maximum(xp.abs(speed), xp.abs(peak)))

    def start(position: Array) -> Motion:
        position = xp.asarray(position)
        zero = xp.zeros_like(position)
        one = zero + 1.0
        outside = xp.minimum(position, lower), xp.maximum(position, upper)
        return Motion(position, zero, zero, position, *outside, zero, zero, one, zero, one + last)

    def planned(motion: Motion, steps: Array = 1) -> Array:
        """The plan's acceleration at a coming step."""
        at = motion.passed + steps
        behind = at - motion.first - motion.hold
        ramp = motion.start - (motion.start + motion.level) * xp.minimum(at, motion.first) / motion.first
        return xp.where(behind <= 0, ramp, -motion.level * xp.maximum(1 - behind / last, 0.0))

    def step(motion: Motion, target: Array, brake: Array = False) -> tuple[Motion, Step]:
        brake = xp.asarray(brake)[..., None] | ~xp.isfinite(target)
        asked = xp.where(brake, motion.target, target)
        goal = xp.clip(asked, lower, upper)
        moves = (goal - motion.target) / period
        moves = xp.where(xp.abs(moves) <= velocity, moves, 0.0)  # faster than the joint: a jump, to where it is to come to rest

        kept = planned(motion)
        least = xp.where(smooth, xp.maximum(-most, motion.acceleration - change), -most)
        greatest = xp.where(smooth, xp.minimum(most, motion.acceleration + change), most)
        exact = ((goal - motion.position) / period - motion.velocity) / period
        tried = xp.clip(exact, least, greatest)
        safe, beside, stop = ahead(motion, xp.stack((tried, kept)), moves, goal)
        faster = xp.abs((goal - motion.position) / period - moves)  # than a target that is met where it does not stay
        over = faster * period * (last - 1) + faster**2 / (2 * most)
        hits = (exact == tried) & safe[0] & (over <= beyond) & ~brake
        side = xp.where(beside[1] < 0, 1.0, -1.0)
        chosen, follows = xp.where(hits, tried, kept), ~hits
        good, planned_stop = safe[0], _Stop(*(part[0] for part in stop))
        if xp is not np or not (hits | brake).all():
            # Without a limit of acceleration what is asked for is the extreme.
            extreme = xp.where(side > 0, xp.where(xp.isfinite(most), greatest, exact), xp.where(xp.isfinite(most), least, exact))
            found = search(motion, kept, extreme, side, moves, goal)
            better = ~hits & ~brake & (found != kept)
            chosen, follows = xp.where(better, found, chosen), follows & ~better
            good, _, planned_stop = ahead(motion, chosen, moves, goal)
        # Once more: a compiler may order the sums of one plan in two ways.
        new = moved(motion, xp.where(good, chosen, kept), follows | ~good, planned_stop)
        new = new._replace(target=xp.where(brake, new.position, goal))
        broken = (
            POSITION * ((asked < lower) | (asked > upper))
            + VELOCITY * (xp.abs(goal - motion.position) > velocity * period)
            + ACCELERATION * (xp.abs(exact) > most)
            + JERK * (smooth & (xp.abs(exact - motion.acceleration) > change))
        )
        missed = (xp.abs(new.position - asked) > 2 * _MARGIN) & ~brake
        limited = xp.where(missed, xp.where(broken == 0, STOPPING, broken), 0)
        return new, Step(new.position, limited, (new.velocity == 0) & (new.acceleration == 0))

    def ahead(motion: Motion, acceleration: Array, moves: Array, goal: Array) -> tuple[Array, Array, _Stop]:
        """Of accelerations to go on with: whether they are safe, where beside a target that moves on a stop would end, and the stop."""
        speed = motion.velocity + acceleration * period
        position = motion.position + speed * period
        both = plan(position, xp.stack((speed, speed - moves)), acceleration)
        stop = _Stop(*(part[0] if part.ndim > position.ndim else part for part in both))
        safe = (stop.low >= motion.lower - 1e-12) & (stop.high <= motion.upper + 1e-12) & (stop.fastest <= velocity)
        return safe, both.end[1] - goal, stop

    def search(motion: Motion, base: Array, extreme: Array, side: Array, moves: Array, goal: Array) -> Array:
        """The acceleration nearest to `extreme` up to which all that were tried from `base` on are safe and do not pass the target."""
        share = xp.arange(branches + 1).reshape(-1, *(1,) * base.ndim) / branches
        for _ in range(rounds):
            tried = base + (extreme - base) * share
            safe, beside, _ = ahead(motion, tried[1:], moves, goal)
            count = xp.cumprod((safe & (side * beside <= 0)).astype(np.int32), axis=0).sum(0)[None]
            base, extreme = (xp.take_along_axis(tried, at, 0)[0] for at in (count, xp.minimum(count + 1, branches)))
        return base

    def moved(motion: Motion, acceleration: Array, follows: Array, stop: _Stop) -> Motion:
        """The motion after another step. Where it follows its plan that stays, elsewhere it is `stop`."""
        speed = motion.velocity + acceleration * period
        rests = follows & (motion.passed + 1 >= motion.first + motion.hold + last)  # the plan's end, without what rounding left
        return Motion(
            xp.where(rests, motion.position, motion.position + speed * period),
            xp.where(rests, 0.0, speed),
            acceleration,
            motion.target,
            xp.where(follows, motion.lower, xp.minimum(lower, stop.low)),
            xp.where(follows, motion.upper, xp.maximum(upper, stop.high)),
            xp.where(follows, motion.start, acceleration),
            xp.where(follows, motion.level, stop.level),
            xp.where(follows, motion.first, stop.first),
            xp.where(follows, motion.hold, stop.hold),
            xp.where(follows, motion.passed + 1, 0.0),
        )

    def rest(motion: Motion) -> Array:
        left = int(np.max(motion.first + motion.hold + last - motion.passed))
        steps = np.arange(1, max(left, 1) + 1).reshape(-1, *(1,) * np.ndim(motion.position))
        speed = motion.velocity + period * np.cumsum(planned(motion, steps), axis=0)
        return motion.position + period * np.cumsum(speed, axis=0)

    return Limiter(start, step, rest)
