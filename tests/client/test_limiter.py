"""Whatever is asked for, what is commanded keeps to all limits and can always stop; what keeps to them by itself is not changed.

The commands are judged by differences of theirs, in numpy, without a formula of the limiter.
"""

from dataclasses import replace

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_client.limiter import ACCELERATION, JERK, POSITION, STOPPING, VELOCITY, Bounds, bounds, limiter
from jaxrl_client.limits import ROBOTS, Limits, panda, slower, so101

TOLERANCE = 1e-6
SEQUENCES, EXAMPLES, STEPS = 5000, 20, 16  # 100 000 sequences in all
LONG = 100  # steps of a stop


def _violation(positions, given: Bounds):
    """By how much commands [T, ...] from rest break each limit: of position and velocity in units, of the others as a share.

    Differences of positions that are rounded to 2e-16 are themselves known to that over a power of the period; so much is allowed.
    """
    rest = np.concatenate((np.repeat(positions[:1], 3, 0), positions))
    rounding = 8 * np.finfo(float).eps * np.abs(positions).max(0)
    velocity = np.diff(rest, axis=0) / given.period
    acceleration = np.diff(velocity, axis=0) / given.period
    jerk = np.diff(acceleration, axis=0) / given.period
    return {
        "position": max((positions - given.upper).max(), (given.lower - positions).max()),
        "velocity": (np.abs(velocity) - given.velocity).max(),
        "acceleration": ((np.abs(acceleration) - rounding / given.period**2) / given.acceleration).max() - 1,
        "jerk": ((np.abs(jerk) - rounding / given.period**3) / given.jerk).max() - 1,
    }


def _random_bounds(rng, count):
    """Of joints that are slow and quick, with much room and almost none, with and without limits of acceleration and jerk."""

    def between(low, high):
        return np.exp(rng.uniform(np.log(low), np.log(high), (count, 1)))

    period = float(np.exp(rng.uniform(np.log(1e-3), np.log(0.1))))
    lower = rng.uniform(-3, 3, (count, 1))
    velocity = between(0.05, 30)
    acceleration = np.where(rng.random((count, 1)) < 0.15, np.inf, between(0.1, 1000))
    jerk = np.where(np.isinf(acceleration) | (rng.random((count, 1)) < 0.2), np.inf, acceleration * between(0.3, 1000))
    return Bounds(lower, lower + between(1e-3, 6), velocity, acceleration, jerk, period)


def _targets(rng, given, kind, position, previous):
    """The next targets: good, jumping, far outside, or no numbers at all."""
    span = given.upper - given.lower
    anywhere = given.lower + span * rng.uniform(-0.3, 1.3, position.shape)
    near = position + given.velocity * given.period * rng.uniform(-1.5, 1.5, position.shape)
    wild = rng.choice([np.nan, np.inf, -np.inf, 1e300, -1e300, 1e9, 0.0], position.shape)
    mixed = np.where(rng.random(position.shape) < 0.2, anywhere, previous)
    return {"anywhere": anywhere, "near": near, "wild": np.where(rng.random(position.shape) < 0.2, wild, near), "holding": mixed}[kind]


@hypothesis.settings(max_examples=EXAMPLES, deadline=None, phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate])
@hypothesis.given(st.integers(0, 2**32), st.sampled_from(("anywhere", "near", "wild", "holding")))
def test_no_sequence_of_targets_breaks_a_limit_and_all_can_always_stop(seed, kind):
    rng = np.random.default_rng(seed)
    given = _random_bounds(rng, SEQUENCES)
    shaped = limiter(given, rounds=1, branches=4)
    motion = shaped.start(given.lower + (given.upper - given.lower) * rng.random((SEQUENCES, 1)))
    positions, target, cut = [motion.position], motion.position, rng.integers(STEPS)
    for step in range(STEPS):
        target = _targets(rng, given, kind, motion.position, target)
        motion, said = shaped.step(motion, target, rng.random(SEQUENCES) < 0.02)
        positions.append(said.position)
        if step == cut:
            _assert_stops(shaped, given, motion, np.stack(positions))
    _assert_stops(shaped, given, motion, np.stack(positions))


def _assert_stops(shaped, given, motion, positions):
    """Within the limits up to here, and while a stop takes place from here on; of those that take long, but not for ever, a hundred."""
    assert np.isfinite(positions).all()
    assert all(value <= TOLERANCE for value in _violation(positions, given).values()), _violation(positions, given)
    smooth = np.isfinite(given.jerk)
    lets_go = np.where(smooth, given.acceleration, 1) / np.where(smooth, given.jerk * given.period, 1)
    takes = (motion.first + motion.hold - motion.passed + lets_go)[:, 0]
    left = np.argsort(-takes)[np.sort(takes)[::-1] < LONG][:100]
    some = Bounds(*(part[left] for part in given[:5]), given.period)
    few, braking = limiter(some, rounds=1, branches=1), type(motion)(*(part[left] for part in motion))
    planned, stopped = few.rest(braking), [positions[-1, left]]
    for _ in range(2 * LONG):
        braking, said = few.step(braking, np.full((len(left), 1), np.nan))
        stopped.append(said.position)
        if said.standstill.all():
            break
    assert said.standstill.all()
    whole = np.concatenate((positions[:, left], stopped[1:]))
    assert all(value <= TOLERANCE for value in _violation(whole, some).values()), _violation(whole, some)
    np.testing.assert_allclose(planned[-1], said.position, atol=1e-9)


@pytest.mark.parametrize("name, period", [("panda", 5e-3), ("panda", 0.02), ("so100", 0.02), ("so101", 0.02), ("go2", 0.02)])
def test_ready_sets_are_kept_to_and_targets_reached(name, period):
    limits = ROBOTS[name](period)
    given, shaped = bounds(limits), limiter(bounds(limits))
    middle = (given.lower + given.upper) / 2
    motion, positions = shaped.start(middle), [middle]
    for goal in (given.upper + 1, middle):
        for _ in range(int(3 / period)):
            motion, said = shaped.step(motion, goal)
            positions.append(said.position)
        np.testing.assert_allclose(said.position, np.minimum(goal, given.upper), atol=1e-5)
        assert ((said.limited & POSITION) > 0).all() == (goal > given.upper).all()
    assert all(value <= TOLERANCE for value in _violation(np.array(positions), given).values())


def test_what_keeps_to_the_limits_is_commanded_as_it_is():
    limits = so101(0.02)
    shaped = limiter(bounds(limits))
    time = np.arange(200)[:, None] * limits.period
    targets = 0.5 * np.sin(1.2 * time) ** 3 * np.array([1, 1, 1, 1, 1, 0.1])
    motion = shaped.start(targets[0])
    for target in targets:
        motion, said = shaped.step(motion, target)
        np.testing.assert_allclose(said.position, target, atol=1e-12)
        assert not said.limited.any()


def test_a_target_that_comes_to_rest_is_not_passed_and_one_that_moves_on_is_caught_up_with():
    limits = so101(0.02)
    shaped = limiter(bounds(limits))
    motion = shaped.start(np.zeros(6))
    for _ in range(100):
        motion, said = shaped.step(motion, np.full(6, 0.8))
        assert (said.position <= 0.8 + 0.02 * 2.36 * limits.period).all()
    np.testing.assert_allclose(said.position, 0.8, atol=1e-6)
    for step in range(100):
        target = np.full(6, -1.0 + 0.01 * step)
        motion, said = shaped.step(motion, target)
    np.testing.assert_allclose(said.position, target, atol=1e-6)


def test_it_is_said_what_a_target_would_have_broken():
    limits = Limits(("a", "b", "c", "d", "e"), (-1.0,), (1.0,), (1.0,), 0.1, (2.0,), (15.0,), stall=0.5)
    shaped = limiter(bounds(limits))
    targets = np.array([0.0, 2.0, 0.5, 0.05, 0.016])
    _, said = shaped.step(shaped.start(np.zeros(5)), targets)
    assert [bool(bit & said.limited[0]) for bit in (POSITION, VELOCITY, ACCELERATION, JERK, STOPPING)] == [False] * 5
    assert said.limited[1] & POSITION and said.limited[1] & VELOCITY
    assert said.limited[2] & VELOCITY and not said.limited[2] & POSITION
    assert said.limited[3] & ACCELERATION and not said.limited[3] & VELOCITY
    assert said.limited[4] == JERK


def test_room_to_stop_is_left_before_a_limit_of_position():
    """At full speed towards the end of its range a joint is slowed by no limit but that one."""
    limits = Limits(("a",), (-10.0,), (1.0,), (2.0,), 0.01, acceleration=(4.0,))
    shaped = limiter(bounds(limits))
    motion, seen = shaped.start(np.zeros(1) - 1.0), 0
    for step in range(300):
        target = np.array([-1.0 + min(0.5 * 4.0 * ((step + 1) * 0.01) ** 2, 2 * 0.01 * (step + 1) - 0.5)])
        motion, said = shaped.step(motion, target)
        seen |= int(said.limited[0])
        room = 1.0 - said.position[0]
        speed = motion.velocity[0]
        assert speed * speed / (2 * 4.0) - speed * 0.01 / 2 <= room + 1e-9  # the first period of a stop is one of less speed already
    assert seen & (STOPPING | POSITION)
    assert abs(said.position[0] - 1.0) < 1e-6


def test_who_begins_outside_of_the_limits_is_led_back_and_never_further_out():
    limits = so101()
    given, shaped = bounds(limits), limiter(bounds(limits))
    motion = shaped.start(given.upper + 0.1)
    before = motion.position
    for target in [given.upper + 1.0] * 10 + [given.upper - 0.1] * 100:
        motion, said = shaped.step(motion, target)
        assert (said.position <= before + 1e-12).all()
        before = np.minimum(before, np.maximum(said.position, given.upper))
    np.testing.assert_allclose(said.position, given.upper - 0.1, atol=1e-6)


def test_in_jax_it_is_the_same():
    given = bounds(so101())
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        ours, theirs = limiter(given), limiter(given, jnp)
        step, rng = jax.jit(theirs.step), np.random.default_rng(0)
        motion, alone = ours.start(np.zeros((32, 6))), theirs.start(jnp.zeros((32, 6)))
        differences, positions = [], [alone.position]
        for target in np.cumsum(rng.normal(size=(60, 32, 6)) * 0.1, 0):
            _, again = step(jax.tree.map(jnp.asarray, motion), jnp.asarray(target))
            alone, _ = step(alone, jnp.asarray(target))
            motion, said = ours.step(motion, target)
            positions.append(alone.position)
            differences.append(np.abs(np.asarray(again.position) - said.position))
            np.testing.assert_array_equal(again.limited == 0, said.limited == 0)
    # Rounding has them choose differently now and then, where the number of a plan's steps jumps; both keep to the limits.
    assert np.mean(np.array(differences) < 1e-9) > 0.95
    assert all(value <= TOLERANCE for value in _violation(np.array(positions), given).values())


@pytest.mark.parametrize(
    "changed, said",
    [
        (dict(period=0.0), "period is 0.0"),
        (dict(period=float("nan")), "period is nan"),
        (dict(stall=0.01), "stall"),
        (dict(lower=(1.0,), upper=(1.0,)), "shoulder_pan: lower 1.0 is not below upper 1.0"),
        (dict(velocity=()), "velocity has 0 entries"),
        (dict(velocity=(float("inf"),)), "no limit of velocity"),
        (dict(velocity=(0.0,)), "positive"),
        (dict(acceleration=()), "jerk, but none of acceleration"),
        (dict(jerk=(1.0, 2.0)), "jerk has 2 entries, expected 1 or 6"),
        (dict(upper=(float("nan"),)), "upper is"),
        (dict(names=("a", "a")), "each once"),
        (dict(box=((0, 0, 0), (1, 1, 0))), "box"),
    ],
)
def test_impossible_limits_are_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        replace(so101(), **changed)


def test_slower_is_the_same_way_in_a_longer_time():
    half = slower(panda(), 0.5)
    assert half.velocity[0] == panda().velocity[0] / 2 and half.jerk[0] == panda().jerk[0] / 8
    with pytest.raises(ValueError, match="factor is 0"):
        slower(panda(), 0)
