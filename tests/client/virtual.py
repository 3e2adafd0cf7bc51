"""A policy, a network and a robot in virtual time around the client's state machine: the same story every time, in no time."""

import heapq
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxrl_client.chunks import Chunk
from jaxrl_client.control import Control, Phase, Request, Seen
from jaxrl_client.limits import Limits
from jaxrl_client.safety import Fault

HORIZON, SIZE = 50, 2
LIMITS = Limits(("a", "b"), (-1.0,), (1.0,), (2.0,), 0.02, (10.0,), (200.0,), tracking=(0.3,), max_age=0.9, stall=0.1)
Answers = Callable[[Request], list[tuple[float, Any]]]  # seconds until each answer, and the chunk, or why there is none


def path(step):
    """Where a robot without faults is at a step: a motion within the limits, from rest."""
    return np.stack((0.6 * np.sin(0.03 * step) ** 3, -0.4 * np.sin(0.03 * step) ** 3), -1)


def chunk(request: Request, **changed) -> Chunk:
    """A good answer."""
    actions = path(request.step + np.arange(HORIZON))
    return Chunk(request.number, request.epoch, request.step, request.captured, actions)._replace(**changed)


class Moment(NamedTuple):
    """A tick, and the state after it."""

    now: float
    tick: Any
    state: Any


class Story(NamedTuple):
    """What came of it."""

    moments: list[Moment]
    said: list[str]
    used: list[int]  # requests in the order in which their answers were used
    requests: list[Request]


def tell(control: Control, answers: Answers, seconds: float, state=None, limits: Limits = LIMITS, gaps=None, at=None) -> Story:
    """`gaps` are seconds by which this computer is late at a tick, `at` what an operator does at one: state -> state, or a fault."""
    state = control.init() if state is None else state
    now, position, coming, count = 100.0, np.zeros(SIZE), [], 0
    moments, said, used, requests = [], [], [], []
    for number in range(round(seconds / limits.period)):
        now += limits.period + (gaps or {}).get(number, 0.0)
        while coming and coming[0][0] <= now:
            when, _, request, answer = heapq.heappop(coming)
            before = state.queue.newest
            step = control.failed(state, when, request.number, answer) if isinstance(answer, str) else control.answered(state, when, answer)
            state = step[0]
            said.append(step[1])
            if state.queue.newest != before and not isinstance(answer, str):
                used.append(answer.request)
        stop, act = Fault.NONE, (at or {}).get(number)
        if isinstance(act, Fault):
            stop = act
        elif act is not None:
            state = act(state, now, Seen(now, position))
        state, tick = control.tick(state, now, Seen(now - 0.005, position), stop)
        said += tick.events
        position = position if tick.command is None else tick.command
        moments.append(Moment(now, tick, state))
        if tick.request is not None:
            requests.append(tick.request)
            for delay, answer in answers(tick.request):
                count += 1
                heapq.heappush(coming, (now + delay, count, tick.request, answer))
    return Story(moments, said, used, requests)


def assert_safe(story: Story, limits: Limits = LIMITS) -> None:
    """In no story does a command leave its limits, move after a latch, or follow an answer that is older than one used before."""
    runs: list[list[np.ndarray]] = [[]]
    for moment in story.moments:
        if moment.tick.command is None:
            runs.append([])
        else:
            runs[-1].append(moment.tick.command)
    for run in (np.array(run) for run in runs if len(run) > 3):
        velocity = np.diff(run, axis=0) / limits.period
        acceleration = np.diff(velocity, axis=0) / limits.period
        jerk = np.diff(acceleration, axis=0) / limits.period
        assert np.abs(run).max() <= 1 + 1e-6 and np.abs(velocity).max() <= 2 + 1e-6
        assert np.abs(acceleration).max() <= 10 + 1e-6 and np.abs(jerk).max() <= 200 * (1 + 1e-6)
    assert all(earlier < later for earlier, later in zip(story.used, story.used[1:], strict=False))
    for before, after in zip(story.moments, story.moments[1:], strict=False):
        if before.state.phase == after.state.phase == Phase.STOPPED and before.tick.decision.mode.value == "latched":
            assert np.array_equal(before.tick.command, after.tick.command)
