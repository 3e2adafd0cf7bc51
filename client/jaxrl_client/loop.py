"""The client at work: the state machine of `control` at its rate, a robot, and a policy that is asked by a thread of its own.

The loop waits for the robot, for a few periods at most, and never for the policy. Whatever goes wrong with either is told to the machine. A
robot that refuses a command, or of which nothing is heard for half of its own watchdog, is stopped.
"""

import enum
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxrl_client import pacing
from jaxrl_client.chunks import Chunk, Merge
from jaxrl_client.codec import Value
from jaxrl_client.control import Control, Phase, Request, State, Tick
from jaxrl_client.remote import CallError, Policy, Refused, Robot, Shown
from jaxrl_client.safety import Fault, Mode
from jaxrl_client.spec import differences, limit_differences

RESET_DEADLINE = 5.0  # seconds


class Order(enum.Enum):
    """What an operator asks for."""

    STOP = "stop"
    RESET = "reset"
    TAKE_OVER = "take over"
    GIVE_BACK = "give back"
    END = "end"  # stops the robot and ends the loop


class Moment(NamedTuple):
    """A tick as it is recorded."""

    now: float
    late: float  # seconds after it was due
    shown: Shown
    state: State
    tick: Tick
    events: tuple[str, ...]


class Summary(NamedTuple):
    """What came of a run."""

    state: State
    timing: pacing.Timing
    events: tuple[tuple[float, str], ...]  # seconds since the start


def run(
    policy: Policy,
    robot: Robot,
    control: Control,
    texts: Mapping[str, str],
    seconds: float = math.inf,
    orders: "queue.SimpleQueue[Order] | None" = None,
    on_tick: Callable[[Moment], None] | None = None,
) -> Summary:
    """Drives the robot at its rate for so many seconds, or until an operator ends it; at the end it is stopped and latched.

    `texts` are shown to the policy beside what the robot shows: {"task/instruction": "..."}. `on_tick` is called in the loop: it has to be
    quick.

    Raises:
        ValueError: policy, robot and limits are not of the same numbers, names, units, or rate.
        CallError: the robot cannot be seen at the start.
    """
    _check(policy, robot, control)
    period = control.limits.period
    orders = queue.SimpleQueue() if orders is None else orders
    asker = _asker(policy, texts)
    shown, heard = robot.observe(RESET_DEADLINE), time.monotonic()
    state, trouble, told, ending = control.init(), "", False, False
    late: list[float] = []
    events: list[tuple[float, str]] = []
    start = time.monotonic() + period
    pace = pacing.paced(start, period)
    try:
        while pacing.due(pace) < start + seconds:
            late.append(pacing.wait(pacing.due(pace)))
            said: list[str] = []
            try:
                shown, heard = robot.observe(_patience(period)), time.monotonic()
                trouble = trouble or ("" if shown.ready or shown.operator else shown.reason)
            except CallError as error:
                gone = time.monotonic() - heard > robot.spec.watchdog_ms / 2000
                said, trouble = [str(error)], str(error) if gone else trouble
            now = time.monotonic()
            state, stop, end = _ordered(control, state, now, shown, orders, said)
            state = _answers(control, state, asker.answers, said)
            if trouble and state.phase == Phase.RUNNING:
                said.append(trouble)
            state, tick = control.tick(state, now, shown.seen, stop if stop != Fault.NONE or not trouble else Fault.ROBOT)
            trouble, told = _commanded(robot, shown, state, tick, told, period)
            if tick.request is not None:
                asker.ask(tick.request, shown.observation)
            said += tick.events
            events += [(now - start, line) for line in said]
            if on_tick is not None:
                on_tick(Moment(now, late[-1], shown, state, tick, tuple(said)))
            pace = pacing.ticked(pace, time.monotonic())
            ending = ending or end
            if ending and state.phase != Phase.RUNNING and (state.filter is None or state.filter.mode == Mode.LATCHED):
                break
    finally:
        asker.close()
        if not told:
            _stop(robot, "the client ends")
    return Summary(state, pacing.timing(late, pace.missed), tuple(events))


def _check(policy: Policy, robot: Robot, control: Control) -> None:
    wrong = differences(policy.spec, robot.spec) + limit_differences(control.limits, robot.spec)
    if control.config.horizon != policy.spec.horizon:
        wrong.append(f"horizon: the policy's is {policy.spec.horizon}, but the client expects {control.config.horizon}")
    if control.config.merging.merge == Merge.REAL_TIME and not policy.spec.takes_prefix:
        wrong.append("merge: the policy cannot be told of the chunk in flight, which real-time chunking needs")
    if wrong:
        raise ValueError("these do not go together:\n" + "\n".join(wrong))


def _patience(period: float) -> float:
    return max(3 * period, 0.02)


def _ordered(control: Control, state: State, now: float, shown: Shown, orders: Any, said: list[str]) -> tuple[State, Fault, bool]:
    """The state after what the operator asked for, here or at the robot; why it is to be stopped; and whether this is the end."""
    stop, end = Fault.NONE, False
    given = [Order.TAKE_OVER] if shown.operator and state.phase in (Phase.WAITING, Phase.RUNNING) else []
    given += [Order.GIVE_BACK] if shown.ready and state.phase == Phase.OPERATOR else []
    while not orders.empty():
        given.append(orders.get())
    for order in given:
        try:
            if order == Order.RESET:
                state = control.reset(state, now, shown.seen)
            elif order == Order.TAKE_OVER:
                state = control.take_over(state)
            elif order == Order.GIVE_BACK:
                state = control.give_back(state)
            else:
                stop, end = Fault.REQUESTED, end or order == Order.END
            said.append(f"operator: {order.value}")
        except ValueError as error:
            said.append(f"operator: {order.value} is refused: {error}")
    return state, stop, end


def _answers(control: Control, state: State, answers: Any, said: list[str]) -> State:
    while not answers.empty():
        when, request, answer = answers.get()
        if isinstance(answer, Chunk):
            state, line = control.answered(state, when, answer)
        else:
            state, line = control.failed(state, when, request, answer)
        said.append(line)
    return state


def _commanded(robot: Robot, shown: Shown, state: State, tick: Tick, told: bool, period: float) -> tuple[str, bool]:
    """Sends the command, or once it has come to a standstill the stop. Returns what went wrong, and whether the robot was told to stop."""
    if tick.decision is None or tick.command is None:
        return "", False
    if tick.decision.mode == Mode.LATCHED:
        return "", told or _stop(robot, tick.decision.fault.value)
    try:
        robot.command(tick.command, shown, _patience(period))
    except Refused as error:
        return str(error), False
    except CallError:
        pass  # if it does not come back, nothing will be seen of it either
    return "", False


def _stop(robot: Robot, reason: str) -> bool:
    try:
        robot.stop(reason, 0.5)
    except CallError:
        return False  # its own watchdog stops it
    return True


class _Asker(NamedTuple):
    ask: Callable[[Request, Mapping[str, Value | str]], None]
    answers: "queue.SimpleQueue[tuple[float, int, Chunk | str]]"
    close: Callable[[], None]


def _asker(policy: Policy, texts: Mapping[str, str]) -> _Asker:
    """A thread that asks the policy, for the loop must not wait for it."""
    asked: queue.SimpleQueue[tuple[Request, Mapping[str, Value | str]] | None] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[float, int, Chunk | str]] = queue.SimpleQueue()

    def work() -> None:
        epoch = 0
        while (item := asked.get()) is not None:
            request, observation = item
            answer: Chunk | str
            try:
                if request.epoch != epoch:
                    policy.reset(request.epoch, texts, min(RESET_DEADLINE, request.deadline - time.monotonic()))
                    epoch = request.epoch
                answer = policy.infer(request, {**observation, **texts}, request.deadline - time.monotonic())
            except CallError as error:
                answer = str(error)
            except Exception as error:  # a thread that dies without a word would leave the loop waiting
                answer = f"{type(error).__name__}: {error}"
            answers.put((time.monotonic(), request.number, answer))

    thread = threading.Thread(target=work, name="asker", daemon=True)
    thread.start()
    return _Asker(lambda request, observation: asked.put((request, observation)), answers, lambda: asked.put(None))
