"""What is commanded and what is said, fault by fault; and that nothing but an operator has a stopped robot move again."""

import re
from dataclasses import replace

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from jaxrl_client import limiter, safety
from jaxrl_client.limits import Limits, so101
from jaxrl_client.safety import Fault, Measured, Mode, Target

LIMITS = Limits(("a", "b"), (-1.0,), (1.0,), (2.0,), 0.02, (10.0,), (200.0,), effort=(5.0,), tracking=(0.3,), max_age=0.4, patience=0.21)
PERIOD = LIMITS.period


def _run(filtered, state, targets, now, **more):
    """Decisions for targets that were decided by what was seen just now."""
    decisions = []
    for target in targets:
        now += PERIOD
        state, decision = filtered.step(state, now, None if target is None else Target(np.array(target), now - 0.01), **more)
        decisions.append(decision)
    return state, decisions, now


def _moving(limits=LIMITS, forward_kinematics=None):
    """A robot at speed."""
    filtered = safety.safety(limits, forward_kinematics)
    state, decisions, now = _run(filtered, filtered.start(np.zeros(2), 0.0), [[0.9, -0.9]] * 12, 0.0)
    assert decisions[-1].mode == Mode.RUNNING and np.abs(state.motion.velocity).min() > 1
    return filtered, state, now


def _assert_stops(filtered, state, decision, now, fault):
    """It says why, stops under control, latches, and nothing that comes later has it move."""
    assert (decision.fault, decision.mode) == (fault, Mode.STOPPING)
    commands = [state.motion.position]
    state, decisions, now = _run(filtered, state, [[0.5, -0.5]] * 60, now)
    commands = np.array([*commands, *(decision.command for decision in decisions)])
    assert np.abs(np.diff(commands, axis=0)).max() <= 2.0 * PERIOD + 1e-9
    assert np.abs(np.diff(commands, 2, axis=0)).max() <= 10.0 * PERIOD**2 + 1e-9
    assert decisions[-1].mode == Mode.LATCHED and decisions[-1].fault == fault
    latched = [decision.command for decision in decisions if decision.mode == Mode.LATCHED]
    assert (np.ptp(np.array(latched), axis=0) == 0).all()
    with pytest.raises(ValueError, match="running"):
        filtered.reset(filtered.start(np.zeros(2), now), np.zeros(2), now)
    state = filtered.reset(state, latched[-1], now)
    state, decisions, _ = _run(filtered, state, [[0.0, 0.0]] * 60, now)
    assert decisions[-1].mode == Mode.RUNNING
    np.testing.assert_allclose(decisions[-1].command, 0, atol=1e-6)


FAULTS = {
    "a target that is not finite": (Fault.NOT_FINITE, "nan", lambda now: (now, Target(np.array([0.1, np.nan]), now - 0.01)), {}),
    "an infinite target": (Fault.NOT_FINITE, "inf", lambda now: (now, Target(np.array([np.inf, 0]), now - 0.01)), {}),
    "a target of another shape": (Fault.WRONG_SHAPE, r"\(3,\), expected \(2,\)", lambda now: (now, Target(np.zeros(3), now)), {}),
    "a clock that stands": (Fault.CLOCK, "0 s", lambda now: (now - PERIOD, None), {}),
    "a clock that goes back": (Fault.CLOCK, "-0.98", lambda now: (now - 1, None), {}),
    "a computer that was away": (Fault.STALLED, "5.02 s since the last step, at most 0.1", lambda now: (now + 5, None), {}),
    "a collision": (Fault.EFFORT, "b: 6, at most 5", lambda now: (now, None), dict(measured=Measured(effort=np.array([0, -6.0])))),
    "a robot that is elsewhere": (
        Fault.TRACKING,
        "a: .*, at most 0.3",
        lambda now: (now, None),
        dict(measured=Measured(np.array([-1.0, 0]))),
    ),
    "a sensor that says nothing": (Fault.SENSOR, "nan", lambda now: (now, None), dict(measured=Measured(np.array([np.nan, 0])))),
    "efforts of another robot": (Fault.SENSOR, "effort", lambda now: (now, None), dict(measured=Measured(effort=np.zeros(3)))),
    "a stop": (Fault.REQUESTED, "", lambda now: (now, None), dict(stop=Fault.REQUESTED)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_stop_the_robot_and_latch(name):
    fault, said, at, more = FAULTS[name]
    filtered, state, now = _moving()
    when, target = at(now + PERIOD)
    state, decision = filtered.step(state, when, target, **more)
    assert not said or re.search(said, decision.detail), decision.detail
    _assert_stops(filtered, state, decision, max(when, now), fault)


def test_without_targets_it_goes_on_to_the_last_one_and_then_stops():
    filtered, state, now = _moving()
    state, decisions, now = _run(filtered, state, [None] * 10, now)
    assert all(decision.held and decision.mode == Mode.RUNNING for decision in decisions)
    assert np.abs(np.diff([decision.command for decision in decisions], axis=0)[0]).min() > 0
    state, (decision,), now = _run(filtered, state, [None], now)
    assert "0.22 s without a target, at most 0.21" in decision.detail
    assert decision.fault == Fault.STARVED and decision.mode in (Mode.STOPPING, Mode.LATCHED)


def test_targets_that_rest_on_what_is_too_old_are_no_targets():
    filtered, state, now = _moving()
    before = state.goal
    for _ in range(11):
        now += PERIOD
        state, decision = filtered.step(state, now, Target(np.zeros(2), now - 0.41))
        assert decision.held == (decision.fault == Fault.NONE) and np.array_equal(state.goal, before)
        assert decision.age == pytest.approx(0.41)
    assert decision.fault == Fault.STALE and "0.41 s old" in decision.detail
    state, decision = filtered.step(_moving()[1], _moving()[2] + PERIOD, Target(np.zeros(2), 1e6))
    assert decision.held  # from the future: another clock's


def test_the_first_fault_is_the_one_that_counts():
    filtered, state, now = _moving()
    state, first = filtered.step(state, now + PERIOD, None, stop=Fault.REQUESTED)
    state, then = filtered.step(state, now + 2 * PERIOD, Target(np.full(2, np.nan), now))
    assert first.fault == then.fault == Fault.REQUESTED
    assert safety.why(then)["fault"] == "REQUESTED" and safety.why(then)["mode"] == "stopping"


def _planar(positions):
    """The tip of two links of half a metre."""
    first, second = positions[:, 0], positions.sum(-1)
    return 0.5 * np.stack((np.cos(first) + np.cos(second), np.sin(first) + np.sin(second), 0 * first), -1)[:, None]


BOXED = replace(LIMITS, lower=(-3.0,), upper=(3.0,), box=((-2.0, -0.3, -1.0), (2.0, 0.3, 1.0)))


def test_no_command_and_no_stop_leaves_the_box():
    filtered = safety.safety(BOXED, _planar)
    rng = np.random.default_rng(0)
    state, now, met, points = filtered.start(np.zeros(2), 0.0), 0.0, 0, []
    for _ in range(60):
        state, decisions, now = _run(filtered, state, [rng.uniform(-1, 1, 2)] * 10, now)
        met += sum(decision.outside for decision in decisions)
        points += [_planar(decision.command[None])[0, 0] for decision in decisions]
    assert met > 50 and np.abs(np.array(points)[:, 1]).max() <= 0.3 + 1e-9
    assert np.ptp(np.array(points)[:, 1]) > 0.3  # it did move
    assert decisions[-1].mode == Mode.RUNNING
    state, decision = filtered.step(state, now + PERIOD, None, stop=Fault.REQUESTED)
    while decision.mode != Mode.LATCHED:
        now += PERIOD
        state, decision = filtered.step(state, now + PERIOD, None)
        assert abs(_planar(decision.command[None])[0, 0, 1]) <= 0.3 + 1e-9


def test_what_cannot_be_begun_is_refused():
    filtered = safety.safety(BOXED, _planar)
    with pytest.raises(ValueError, match="outside of the box"):
        filtered.start(np.array([1.0, 0.0]), 0.0)
    with pytest.raises(ValueError, match="expected 2 finite numbers"):
        filtered.start(np.array([np.nan, 0.0]), 0.0)
    with pytest.raises(ValueError, match="give both or neither"):
        safety.safety(BOXED)
    with pytest.raises(ValueError, match="give both or neither"):
        safety.safety(LIMITS, _planar)


NUMBERS = st.one_of(st.floats(-4, 4), st.floats(), st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e308]))
EVENTS = st.tuples(
    st.sampled_from(["target"] * 8 + ["none", "old", "future", "late", "back", "stop", "effort", "lost", "reset"]),
    st.lists(NUMBERS, min_size=6, max_size=6),
    st.integers(1, 12),
)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(st.lists(EVENTS, min_size=1, max_size=12))
def test_no_story_breaks_a_limit_or_moves_what_is_latched(story):
    """Targets of any kind, faults of any kind, resets at any time."""
    limits = so101()
    given, filtered = limiter.bounds(limits), safety.safety(limits)
    now, state = 0.0, filtered.start(np.zeros(6), 0.0)
    commands, latched = [[np.zeros(6)] * 3], None
    for kind, numbers, times in story:
        for _ in range(times):
            now += {"late": 1.0, "back": -0.01}.get(kind, limits.period)
            captured = now + {"old": -9.0, "future": 9.0}.get(kind, -0.01)
            target = None if kind == "none" else Target(np.array(numbers), captured)
            measured = Measured(*({"effort": (None, np.array(numbers)), "lost": (np.array(numbers), None)}.get(kind, (None, None))))
            if kind == "reset" and state.mode == Mode.LATCHED:
                state, latched = filtered.reset(state, state.motion.position, now - limits.period), None
                commands.append([state.motion.position] * 3)
            state, decision = filtered.step(state, now, target, measured, Fault.REQUESTED if kind == "stop" else Fault.NONE)
            commands[-1].append(decision.command)
            assert latched is None or (decision.mode == Mode.LATCHED and np.array_equal(decision.command, latched))
            latched = decision.command if decision.mode == Mode.LATCHED else None
            if target is not None and not np.isfinite(numbers).all() and kind == "target":
                assert decision.mode != Mode.RUNNING
    for run in map(np.array, commands):
        velocity = np.diff(run, axis=0) / limits.period
        acceleration = np.diff(velocity, axis=0) / limits.period
        assert (run <= given.upper + 1e-6).all() and (run >= given.lower - 1e-6).all()
        assert (np.abs(velocity) <= given.velocity + 1e-6).all() and (np.abs(acceleration) <= given.acceleration + 1e-6).all()
        assert (np.abs(np.diff(acceleration, axis=0)) / limits.period <= given.jerk * (1 + 1e-6)).all()
