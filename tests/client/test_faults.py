"""The fault matrix in virtual time: what was commanded, and what was said. Ids T1 to T9 are those of the project's list of faults."""

import time
from dataclasses import replace

import numpy as np
import pytest

from jaxrl_client import chunks, latency
from jaxrl_client.chunks import Merge
from jaxrl_client.control import Config, Phase, Seen, control
from jaxrl_client.safety import Fault, Mode
from tests.client.virtual import HORIZON, LIMITS, SIZE, assert_safe, chunk, path, tell

CONFIG = Config(SIZE, HORIZON, executed_steps=20, deadline=0.6)


def _good(delay=0.05):
    return lambda request: [(delay, chunk(request))]


def _commands(story):
    return np.array([moment.tick.command for moment in story.moments if moment.tick.command is not None])


def _last(story):
    return story.moments[-1].state


@pytest.mark.parametrize("merge", Merge)
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.2, 0.4])
def test_a_delay_does_not_change_what_is_executed(merge, delay):
    """Chunks are lined up by steps: every command is the one of its step, whatever the latency, without a stop."""
    limits = replace(LIMITS, max_age=1.8)
    story = tell(control(replace(CONFIG, merging=chunks.Config(merge)), limits), _good(delay), 3.5, limits=limits)
    assert_safe(story)
    commands = _commands(story)
    assert _last(story).phase == Phase.RUNNING and len(story.used) > 2
    np.testing.assert_allclose(commands, path(np.arange(len(commands))), atol=1e-9)


def test_a_policy_that_answers_with_one_action_is_executed_at_every_tick():
    config = Config(SIZE, 1, 1, timing=latency.Config(initial=0.02))
    answers = lambda request: [(0.012, chunk(request, actions=path(request.step + np.arange(1))))]  # noqa: E731
    story = tell(control(config, LIMITS), answers, 3.0)
    assert_safe(story)
    commands = _commands(story)
    assert len(commands) > 140 and _last(story).queue.step == len(commands)
    np.testing.assert_allclose(commands, path(np.arange(len(commands))), atol=1e-9)


def test_where_a_chunk_is_half_a_latency_too_short_it_waits_and_leaves_nothing_out():
    limits = replace(LIMITS, max_age=1.8)
    story = tell(control(CONFIG, limits), _good(0.55), 8.0, limits=limits)
    assert_safe(story)
    held = [moment.tick.decision.held for moment in story.moments if moment.tick.decision is not None]
    assert _last(story).phase == Phase.RUNNING and 10 < sum(held) < len(held) / 4
    assert _last(story).queue.step == len(held) - sum(held)


def test_a_delay_that_the_chunks_cannot_bridge_stops_the_robot_and_says_so():
    """From the tenth request on answers take longer than what was executed of a chunk may be old."""
    story = tell(control(CONFIG, LIMITS), lambda request: [(0.05 if request.number < 10 else 5.0, chunk(request))], 12.0)
    assert_safe(story)
    assert _last(story).phase == Phase.STOPPED and _last(story).filter.mode == Mode.LATCHED
    assert any("no answer to request 10 within its deadline; asking again in 0 s" in line for line in story.said)
    assert any(line.startswith("stopped: ") for line in story.said)
    assert any("late or there twice" in line for line in story.said)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_lost_requests_are_made_up_for_by_later_ones(share, seed):
    rng = np.random.default_rng(seed)
    config, limits = replace(CONFIG, deadline=0.15), replace(LIMITS, max_age=1.8)
    story = tell(control(config, limits), lambda request: [] if rng.random() < share else [(0.05, chunk(request))], 7.0, limits=limits)
    assert_safe(story)
    assert _last(story).phase == Phase.RUNNING
    commands = _commands(story)
    np.testing.assert_allclose(commands, path(np.arange(len(commands))), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_answers_that_are_there_twice_and_out_of_order_are_used_once_and_in_order(seed):
    rng = np.random.default_rng(seed)

    def answers(request):
        wrong = chunk(request, actions=np.full((HORIZON, SIZE), 0.9))
        return [(0.05, chunk(request)), *((rng.uniform(0.06, 2.0), wrong) for _ in range(3))]

    story = tell(control(CONFIG, LIMITS), answers, 10.0)
    assert_safe(story)
    assert story.used == sorted(set(story.used)) and len(story.used) > 10
    assert sum("late or there twice" in line for line in story.said) > 20
    commands = _commands(story)
    np.testing.assert_allclose(commands, path(np.arange(len(commands))), atol=1e-9)


@pytest.mark.parametrize("merge", Merge)
def test_what_is_too_old_has_no_part_in_what_comes(merge):
    """Answers are so slow that the end of each chunk is too old: it is held meanwhile, and goes on with the next from where it was."""
    limits = replace(LIMITS, max_age=1.05, patience=1.0)
    config = replace(CONFIG, merging=chunks.Config(merge), timing=latency.Config(initial=0.02), executed_steps=20)
    story = tell(control(config, limits), _good(0.5), 8.0, limits=limits)
    assert_safe(story)
    held = sum(moment.tick.decision.held for moment in story.moments if moment.tick.decision is not None)
    assert _last(story).phase == Phase.RUNNING and 20 < held < len(_commands(story)) / 2, (held, story.said[-3:])
    assert _last(story).queue.step == len(_commands(story)) - held


def test_t1_a_late_answer_is_never_executed():
    late = []

    def answers(request):
        if request.number % 3:
            return [(0.05, chunk(request))]
        late.append(request.number)
        return [(0.65, chunk(request, actions=np.full((HORIZON, SIZE), 0.9)))]

    story = tell(control(replace(CONFIG, executed_steps=5), LIMITS), answers, 12.0)
    assert_safe(story)
    assert len(late) > 5 and not set(late) & set(story.used)
    assert np.abs(_commands(story)).max() < 0.7


def test_t2_after_a_cold_start_the_first_action_is_the_chunks_first():
    """Ten seconds of compiling: nothing is commanded, and the robot then begins where it is, at step 0 of a fresh answer."""
    story = tell(control(CONFIG, LIMITS), lambda request: [(10.0 if request.number == 1 else 0.05, chunk(request))], 14.0)
    assert_safe(story)
    assert any("the first chunk is 10 s old; asking again" in line for line in story.said)
    waiting = [moment for moment in story.moments if moment.tick.command is None]
    assert 10 < waiting[-1].now - 100 < 10.3
    commands = _commands(story)
    np.testing.assert_allclose(commands, path(np.arange(len(commands))), atol=1e-9)


def test_t3_the_estimate_recovers_after_one_slow_answer_and_forgets_a_cold_one():
    config = latency.Config(initial=0.2, window=50)
    now = latency.Latency()
    assert latency.estimate(config, now) == 0.2
    now = latency.observed(config, now, 20.0)
    assert latency.estimate(config, now) == 20.0
    now = latency.observed(config, now, 0.1)
    assert latency.estimate(config, now) == 0.1
    for _ in range(25):
        now = latency.observed(config, now, 0.1)
    now = latency.observed(config, now, 1.0)
    assert latency.estimate(config, now) == 0.1
    for _ in range(10):
        now = latency.observed(config, now, 1.0)
    assert latency.estimate(config, now) == 1.0
    for _ in range(50):
        now = latency.observed(config, now, 0.1)
    assert latency.estimate(config, now) == 0.1
    now = latency.observed(config, latency.reconnected(now), 9.0)
    assert latency.estimate(config, now) == 0.1 and now.cold == 9.0


def test_requests_follow_the_latency():
    """What is left in the queue when the policy is asked is about what will be executed until it answers."""
    config = replace(CONFIG, executed_steps=HORIZON, timing=latency.Config(initial=0.02))
    limits = replace(LIMITS, max_age=2.0)
    for delay in (0.05, 0.3):
        story = tell(control(config, limits), _good(delay), 10.0, limits=limits)
        left = [len(moment.state.queue.actions) for moment in story.moments[200:] if moment.tick.request is not None]
        assert _last(story).phase == Phase.RUNNING
        assert all(abs(steps - delay / 0.02) <= 2 for steps in left), left


def test_t4_a_chunk_in_flight_is_told_with_its_last_action_held():
    queue = chunks.empty(1, 2)._replace(actions=np.array([[0.3, 0.1], [0.4, 0.2]]), captured=np.zeros(2))
    told, known = chunks.prefix(queue, 5)
    assert known == 2
    np.testing.assert_array_equal(told, [[0.3, 0.1], [0.4, 0.2], [0.4, 0.2], [0.4, 0.2], [0.4, 0.2]])
    assert chunks.prefix(chunks.empty(1, 2), 5)[1] == 0
    story = tell(control(replace(CONFIG, merging=chunks.Config(Merge.REAL_TIME)), LIMITS), _good(0.1), 4.0)
    later = [request for request in story.requests if request.prefix is not None]
    assert len(later) > 3 and story.requests[0].prefix is None
    for request in later:
        steps = request.step + np.minimum(np.arange(HORIZON), request.known - 1)
        np.testing.assert_allclose(request.prefix, path(steps), atol=1e-9)
        assert 0 < request.delay <= request.known
    assert all(request.delay == 5 for request in later[3:])


def test_t5_a_robot_that_hardly_moves_is_asked_about_as_often():
    still = tell(control(CONFIG, LIMITS), lambda request: [(0.05, chunk(request, actions=np.full((HORIZON, SIZE), 1e-5)))], 4.0)
    assert len(still.requests) == len(tell(control(CONFIG, LIMITS), _good(), 4.0).requests) > 8


def test_t6_a_server_that_dies_stops_the_robot_for_good_and_its_return_moves_nothing():
    machine = control(CONFIG, LIMITS)
    death, back = 102.0, 106.0

    def answers(request):
        return [(0.01, "unavailable")] if death <= request.sent < back else [(0.05, chunk(request))]

    story = tell(machine, answers, 10.0)
    assert_safe(story)
    stopped = next(moment.now for moment in story.moments if moment.state.phase == Phase.STOPPED)
    assert death < stopped <= death + LIMITS.max_age + LIMITS.patience + 2 * LIMITS.period
    assert _last(story).phase == Phase.STOPPED and not any(request.sent > stopped for request in story.requests)
    waits = [line for line in story.said if "unavailable; asking again in" in line]
    assert [line.split()[-2] for line in waits[:3]] == ["0.1", "0.2", "0.4"]

    def operator(state, now, seen):
        return machine.reset(state, now, seen)

    again = tell(machine, answers, 14.0, at={550: operator})
    assert_safe(again)
    assert _last(again).phase == Phase.RUNNING and _last(again).epoch == 2
    begun = [moment for moment in again.moments if moment.state.epoch == 2 and moment.tick.command is not None]
    np.testing.assert_allclose(begun[0].tick.command, again.moments[540].tick.command, atol=0.01)
    assert begun[0].state.queue.step == 1


BAD = {
    "nan": (dict(actions=np.full((HORIZON, SIZE), np.nan)), "not finite"),
    "infinite": (dict(actions=np.where(np.arange(HORIZON)[:, None] == 40, np.inf, np.zeros((HORIZON, SIZE)))), "not finite"),
    "wrong shape": (dict(actions=np.zeros((HORIZON, SIZE + 1))), r"shape (50, 3), expected (50, 2)"),
    "another step": (dict(step=3), "another observation"),
    "another epoch": (dict(epoch=9), "another observation"),
    "another robot's": (dict(captured=0.0), "another observation"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("always", [False, True])
def test_t8_bad_answers_are_refused_whole(name, always):
    changed, said = BAD[name]

    def answers(request):
        bad = request.number > 4 and (always or request.number % 2)
        return [(0.05, chunk(request, **changed) if bad else chunk(request))]

    story = tell(control(CONFIG, LIMITS), answers, 4.5)
    assert_safe(story)
    assert any(said in line for line in story.said), story.said[-5:]
    assert _last(story).phase == (Phase.STOPPED if always else Phase.RUNNING)
    commands = _commands(story)
    count = 30 if always else len(commands)
    np.testing.assert_allclose(commands[:count], path(np.arange(count)), atol=1e-9)


def test_targets_that_leave_the_limits_are_shaped():
    story = tell(control(CONFIG, LIMITS), lambda request: [(0.05, chunk(request, actions=np.full((HORIZON, SIZE), 1e6)))], 6.0)
    assert_safe(story)
    np.testing.assert_allclose(_commands(story)[-1], 1.0, atol=1e-5)


def test_a_client_that_was_away_stops_and_executes_nothing_that_is_old():
    story = tell(control(CONFIG, LIMITS), _good(), 6.0, gaps={100: 5.0})
    assert_safe(story)
    assert any("stopped: this computer was not there in time; 5.02 s" in line for line in story.said)
    assert _last(story).phase == Phase.STOPPED


def test_the_wall_clock_does_not_matter(monkeypatch):
    wall = iter(np.cumsum(np.random.default_rng(0).choice([-3600.0, 0.02, 3600.0], 10**6)))
    expected = _commands(tell(control(CONFIG, LIMITS), _good(), 4.0))
    monkeypatch.setattr(time, "time", lambda: next(wall))
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * next(wall)))
    np.testing.assert_array_equal(_commands(tell(control(CONFIG, LIMITS), _good(), 4.0)), expected)


def test_a_chunk_from_before_a_reset_is_not_executed():
    machine = control(CONFIG, LIMITS)
    at = {100: Fault.REQUESTED, 160: machine.reset}

    def answers(request):
        return [(0.05 if request.sent < 101.9 or request.epoch > 1 else 1.4, chunk(request))]

    story = tell(machine, answers, 6.0, at=at)
    assert_safe(story)
    assert any("late or there twice" in line for line in story.said)
    assert _last(story).phase == Phase.RUNNING and _last(story).epoch == 2


def test_an_operator_takes_over_and_gives_back():
    machine = control(CONFIG, LIMITS)
    at = {100: lambda state, now, seen: machine.take_over(state), 200: lambda state, now, seen: machine.give_back(state)}
    story = tell(machine, _good(), 8.0, at=at)
    assert_safe(story)
    assert all(moment.tick.command is None and moment.tick.request is None for moment in story.moments[100:200])
    assert _last(story).phase == Phase.RUNNING and _last(story).epoch == 3
    with pytest.raises(ValueError, match="running"):
        machine.give_back(_last(story))


def test_what_has_not_stopped_is_not_reset():
    machine = control(CONFIG, LIMITS)
    seen = Seen(0.0, np.zeros(2))
    with pytest.raises(ValueError, match="waiting; only what has stopped"):
        machine.reset(machine.init(), 0.0, seen)
    story = tell(machine, _good(), 2.1, at={100: Fault.REQUESTED})
    with pytest.raises(ValueError, match="stopping; only what has come to a standstill"):
        machine.reset(_last(tell(machine, _good(), 1.02, at={50: Fault.REQUESTED})), 0.0, seen)
    with pytest.raises(ValueError, match="reset it first"):
        machine.take_over(_last(story))


def test_a_robot_that_cannot_begin_waits_and_says_why():
    machine = control(CONFIG, replace(LIMITS, box=((-1, -1, -1), (1, 1, 1))), lambda positions: np.full((len(positions), 1, 3), 5.0))
    story = tell(machine, _good(), 1.0)
    assert any("the robot cannot begin: the robot is outside of the box" in line for line in story.said)
    assert _last(story).phase == Phase.WAITING and not len(_commands(story))


def test_a_robot_that_shows_nothing_new_is_not_asked_about():
    machine = control(CONFIG, LIMITS)
    state, tick = machine.tick(machine.init(), 100.0, Seen(99.0, np.zeros(2)))
    assert tick.request is None
    assert machine.tick(state, 100.02, Seen(100.0, np.zeros(2)))[1].request.number == 1


@pytest.mark.parametrize(
    "changed, said",
    [
        (dict(executed_steps=60), "executed_steps is 60"),
        (dict(deadline=0.0), "deadline is 0.0"),
        (dict(margin=-1), "margin"),
        (dict(executed_steps=45), "by replace, actions are up to 1.3 s old .* execute fewer"),
        (dict(merging=chunks.Config(Merge.ENSEMBLE)), "by ensemble, actions are up to 1.4 s old"),
        (dict(size=3), "3 entries, but the limits are of 2"),
        (dict(merging=chunks.Config(blended=(True,))), "blended has 1"),
        (dict(horizon=25, merging=chunks.Config(Merge.REAL_TIME)), "too short for that latency"),
    ],
)
def test_impossible_configs_are_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        control(replace(CONFIG, **changed), LIMITS)
