"""What a robot's client does at each step, as a state machine: no thread, no socket, and no clock but the one that it is given.

At each tick of the control rate it takes the next action of the queue through the safety filter, and says whether the policy is to be
asked. Answers and failures are told to it when they come. It asks for one chunk at a time; an answer that comes after its deadline, twice,
or from before a reset is not executed. Once the filter stops the robot nothing is asked or executed until an operator resets it: a network
that comes back changes nothing.
"""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxrl_client import chunks, latency, safety
from jaxrl_client.chunks import Chunk, Merge, Queue, Verdict
from jaxrl_client.latency import Latency
from jaxrl_client.limits import Limits
from jaxrl_client.safety import Decision, Fault, ForwardKinematics, Measured, Target


class Phase(enum.Enum):
    """Who moves the robot."""

    WAITING = "waiting"  # nobody: there is no chunk of this episode yet
    RUNNING = "running"  # the policy
    STOPPED = "stopped"  # nobody: the filter stops it, or has
    OPERATOR = "operator"


@dataclass(frozen=True)
class Config:
    """When the policy is asked, and for how long."""

    size: int  # of an action
    horizon: int  # of a chunk
    executed_steps: int  # of a chunk, after which the next one is asked for, or earlier where the queue would run dry
    deadline: float = 0.5  # seconds for an answer
    cold_deadline: float = 60.0  # for the first, before which the robot does not move
    margin: int = 1  # steps that the queue is to have left when an answer comes
    backoff: float = 0.1  # seconds after a first failure, doubled by each other
    longest_backoff: float = 5.0
    merging: chunks.Config = chunks.Config()
    timing: latency.Config = latency.Config()

    def __post_init__(self) -> None:
        if self.size < 1 or not 1 <= self.executed_steps <= self.horizon:
            raise ValueError(f"executed_steps is {self.executed_steps}, expected 1 to the horizon of {self.horizon}; size is {self.size}")
        for field in ("deadline", "cold_deadline", "backoff", "longest_backoff"):
            if not 0 < getattr(self, field) < math.inf:
                raise ValueError(f"{field} is {getattr(self, field)} s, expected a positive number")
        if self.margin < 0:
            raise ValueError(f"margin is {self.margin} steps, expected 0 or more")


class Seen(NamedTuple):
    """What the robot showed last."""

    captured: float  # by this computer's monotonic clock
    position: np.ndarray  # [D], of what is commanded
    effort: np.ndarray | None = None


class Request(NamedTuple):
    """That the policy is to be asked, about what was last seen."""

    number: int
    epoch: int
    step: int
    captured: float
    sent: float
    deadline: float  # on the monotonic clock
    prefix: np.ndarray | None  # [horizon, D], where chunks are merged in real time
    known: int
    delay: int


class State(NamedTuple):
    """All that the machine remembers."""

    phase: Phase
    epoch: int
    queue: Queue
    filter: safety.State | None  # None before the first chunk, and while an operator moves the robot
    latency: Latency
    flight: Request | None
    number: int  # of the last request
    asked: int  # the step from which the chunk in use was asked for
    failures: int  # since the last answer
    retry: float  # not to be asked before


class Tick(NamedTuple):
    """What is to be done now."""

    command: np.ndarray | None  # [D]; None: nothing is commanded, the robot holds by itself
    decision: Decision | None
    request: Request | None
    events: tuple[str, ...]  # what there is to say


class Control(NamedTuple):
    """Pure functions of one client. `now` is monotonic."""

    config: Config
    limits: Limits
    init: Callable[[], State]
    tick: Callable[..., tuple[State, Tick]]  # (state, now, seen, stop=Fault.NONE)
    answered: Callable[[State, float, Chunk], tuple[State, str]]  # -> what became of it
    failed: Callable[[State, float, int, str], tuple[State, str]]  # (state, now, request, why)
    reset: Callable[[State, float, Seen], State]  # an operator's, of what is latched
    take_over: Callable[[State], State]  # an operator's
    give_back: Callable[[State], State]


def control(config: Config, limits: Limits, forward_kinematics: ForwardKinematics | None = None) -> Control:
    """The machine of one policy and one robot.

    Raises:
        ValueError: what is executed of a chunk would be too old for the filter, or leaves no room for the answer to come; of the functions:
            what is reset has not stopped, or what is given back was not taken.
    """
    _check(config, limits)
    filtered = safety.safety(limits, forward_kinematics)
    merge = chunks.merger(config.merging)

    def init() -> State:
        queue = chunks.empty(1, config.size)
        return State(Phase.WAITING, 1, queue, None, Latency(), None, 0, 0, 0, -math.inf)

    def tick(state: State, now: float, seen: Seen, stop: Fault = Fault.NONE) -> tuple[State, Tick]:
        events: tuple[str, ...] = ()
        if state.flight is not None and now >= state.flight.deadline:
            state, said = _failure(state, now, f"no answer to request {state.flight.number} within its deadline", timed_out=True)
            events += (said,)
        if state.phase == Phase.WAITING and len(state.queue.actions) and stop == Fault.NONE:
            state, said = _begin(state, now, seen)
            events += (said,)
        decision, before = None, state.queue
        if state.filter is not None:
            state, decision = _execute(state, now, seen, stop)
            if decision.fault != Fault.NONE and state.phase == Phase.RUNNING:
                events += (f"stopped: {decision.fault.value}; {decision.detail}",)
                state = state._replace(phase=Phase.STOPPED, flight=None, queue=chunks.empty(state.epoch, config.size))
        state, request = _ask(state, now, seen, before)
        return state, Tick(None if decision is None else decision.command, decision, request, events)

    def _begin(state: State, now: float, seen: Seen) -> tuple[State, str]:
        """The first chunk moves the robot, if what it was decided by is not too old: else the policy is warm now, and is asked again."""
        age = now - float(state.queue.captured[0])
        fresh = chunks.empty(state.epoch, config.size)._replace(newest=state.queue.newest)
        if age > limits.max_age:
            return state._replace(queue=fresh), f"the first chunk is {age:.3g} s old; asking again"
        try:
            begun = filtered.start(seen.position, now - limits.period)
        except ValueError as error:
            return state._replace(queue=fresh, retry=now + config.longest_backoff), f"the robot cannot begin: {error}"
        return state._replace(phase=Phase.RUNNING, filter=begun), f"running from request {state.queue.newest}"

    def _execute(state: State, now: float, seen: Seen, stop: Fault) -> tuple[State, Decision]:
        queue, target = state.queue, None
        if len(queue.actions) and state.phase == Phase.RUNNING:
            rest, action, captured = chunks.pop(queue)
            target = Target(action, captured)
            queue = rest if now - captured <= limits.max_age else queue  # a step that is too old is not executed, so the next answer has it
        held, decision = filtered.step(state.filter, now, target, Measured(seen.position, seen.effort), stop)
        return state._replace(queue=queue, filter=held), decision

    def _ask(state: State, now: float, seen: Seen, before: Queue) -> tuple[State, Request | None]:
        """The request, if it is time: about the step that this tick executes, whose action is the first of the queue `before` it.

        That one is under way when the answer comes, so a policy that answers with one action is asked for the next step's.
        """
        if state.phase not in (Phase.WAITING, Phase.RUNNING) or state.flight is not None or now < state.retry:
            return state, None
        if now - seen.captured > limits.max_age:
            return state, None  # whatever is decided by that would be too old
        left = len(state.queue.actions)
        delay = math.ceil(latency.estimate(config.timing, state.latency) / limits.period)
        if left > delay + config.margin and state.queue.step - state.asked < config.executed_steps:
            return state, None
        prefix, known = chunks.prefix(before, config.horizon)
        told = config.merging.merge == Merge.REAL_TIME and known > 0
        limit = config.deadline if state.phase == Phase.RUNNING else config.cold_deadline
        request = Request(
            state.number + 1,
            state.epoch,
            state.queue.step if config.horizon == 1 else before.step,
            seen.captured,
            now,
            now + limit,
            prefix if told else None,
            known if told else 0,
            min(delay, known) if told else 0,
        )
        return state._replace(flight=request, number=request.number), request

    def answered(state: State, now: float, chunk: Chunk) -> tuple[State, str]:
        flight = state.flight
        if flight is None or chunk.request != flight.number:
            return state, f"the answer to request {chunk.request} is late or there twice; it is not executed"
        if now >= flight.deadline:
            return _failure(state, now, f"no answer to request {flight.number} within its deadline", timed_out=True)
        shape = (config.horizon, config.size)
        if np.shape(chunk.actions) != shape or not np.isfinite(chunk.actions).all():
            well = np.shape(chunk.actions) == shape
            wrong = "numbers that are not finite" if well else f"shape {np.shape(chunk.actions)}, expected {shape}"
            return _failure(state, now, f"the answer to request {chunk.request} has {wrong}")
        if (chunk.epoch, chunk.step, chunk.captured) != (flight.epoch, flight.step, flight.captured):
            return _failure(state, now, f"the answer to request {chunk.request} is to another observation")
        state = state._replace(flight=None, failures=0, latency=latency.observed(config.timing, state.latency, now - flight.sent))
        queue = state.queue
        if len(queue.actions) and now - float(queue.captured[0]) > limits.max_age:
            queue = chunks.empty(queue.epoch, config.size)._replace(step=queue.step, newest=queue.newest)  # no part of any mean
        queue, verdict = merge(queue, chunk)
        if verdict == Verdict.USED:
            state = state._replace(queue=queue, asked=chunk.step)
        return state, f"request {chunk.request}: {verdict.value}"

    def failed(state: State, now: float, request: int, why: str) -> tuple[State, str]:
        if state.flight is None or request != state.flight.number:
            return state, f"request {request} failed after it was given up: {why}"
        return _failure(state, now, f"request {request} failed: {why}")

    def _failure(state: State, now: float, why: str, timed_out: bool = False) -> tuple[State, str]:
        """A new request comes later, about what is seen then; none is ever sent twice."""
        wait = 0.0 if timed_out else min(config.backoff * 2.0 ** min(state.failures, 30), config.longest_backoff)
        timing = state.latency
        if timed_out and state.phase == Phase.RUNNING and state.flight is not None:
            timing = latency.observed(config.timing, timing, now - state.flight.sent)
        state = state._replace(flight=None, failures=state.failures + 1, retry=now + wait, latency=timing)
        return state, f"{why}; asking again in {wait:.3g} s"

    def reset(state: State, now: float, seen: Seen) -> State:
        if state.phase != Phase.STOPPED or state.filter is None:
            raise ValueError(f"the client is {state.phase.value}; only what has stopped is reset")
        filtered.reset(state.filter, seen.position, now)  # or it says why not
        return _anew(state, Phase.WAITING)

    def _anew(state: State, phase: Phase) -> State:
        """A new epoch, for which nothing of the last one counts."""
        epoch = state.epoch + 1
        return state._replace(
            phase=phase,
            epoch=epoch,
            queue=chunks.empty(epoch, config.size),
            filter=None,
            latency=latency.reconnected(state.latency),
            flight=None,
            asked=0,
            failures=0,
            retry=-math.inf,
        )

    def take_over(state: State) -> State:
        if state.phase == Phase.STOPPED:
            raise ValueError("the client has stopped: reset it first")
        return _anew(state, Phase.OPERATOR)

    def give_back(state: State) -> State:
        if state.phase != Phase.OPERATOR:
            raise ValueError(f"the client is {state.phase.value}; only what an operator took over is given back")
        return _anew(state, Phase.WAITING)

    return Control(config, limits, init, tick, answered, failed, reset, take_over, give_back)


def _check(config: Config, limits: Limits) -> None:
    if config.size != len(limits.names):
        raise ValueError(f"actions have {config.size} entries, but the limits are of {len(limits.names)} joints")
    if config.merging.blended and len(config.merging.blended) != config.size:
        raise ValueError(f"blended has {len(config.merging.blended)} entries, expected {config.size}")
    mixed = config.merging.merge not in (Merge.REPLACE, Merge.REAL_TIME)
    steps = config.horizon if mixed else config.executed_steps
    oldest = 2 * config.timing.initial + steps * limits.period  # it waits for the first chunk, and for the one after it
    if oldest > limits.max_age:
        raise ValueError(
            f"merging by {config.merging.merge.value}, actions are up to {oldest:.3g} s old (twice {config.timing.initial:g} s of latency,"
            f" and {steps} steps), but max_age is {limits.max_age:g} s: raise it, or execute fewer steps of a chunk"
        )
    delay = math.ceil(config.timing.initial / limits.period)
    if config.merging.merge == Merge.REAL_TIME and not delay <= config.executed_steps <= config.horizon - delay:
        raise ValueError(
            f"real-time chunking needs delay <= executed_steps <= horizon - delay, but these are {delay}, {config.executed_steps} and "
            f"{config.horizon - delay}: the chunk is too short for that latency"
        )
