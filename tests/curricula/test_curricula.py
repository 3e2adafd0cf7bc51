"""How ranges follow outcomes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.curricula import adaptive_width, adr, adversarial, nominal
from jaxrl.curricula.static import fixed
from tests.probes import PROBES, lines, probe_env

ENV = probe_env(PROBES["value"].numbers)._replace(space=lines())
KEYS = jax.random.split(jax.random.key(0), 4000)
MASSES, DELAY = slice(0, 3), 3


def draw(curriculum, state):
    points, tags = jax.jit(jax.vmap(curriculum.draw, (None, 0)))(state, KEYS)
    return np.asarray(points), tags


def told(curriculum, state, tags, outcomes, count=None):
    """The state after one tally of these episodes."""
    outcomes = jnp.asarray(outcomes, jnp.float32)
    tally = curriculum.credit(curriculum.tally(), tags, outcomes, jnp.ones_like(outcomes) if count is None else jnp.asarray(count))
    return curriculum.observe(state, tally)


def test_static_draws_from_the_distribution_alone():
    curriculum = fixed(jax.random.uniform)
    points, _ = draw(curriculum, curriculum.init())
    np.testing.assert_array_equal(points, jax.vmap(jax.random.uniform)(KEYS))


def test_nominal_draws_nothing_else():
    curriculum = nominal.nominal(nominal.Config(), ENV)
    drawn = [curriculum.draw(curriculum.init(), key)[0] for key in KEYS[:2]]
    assert all(jax.tree.all(jax.tree.map(np.array_equal, one, ENV.nominal)) for one in drawn)


def test_a_curriculum_needs_something_that_varies():
    with pytest.raises(ValueError, match="curriculum adr: probe varies nothing; give its config ranges"):
        adr.adr(adr.Config(), ENV._replace(space=None))


# adaptive width


def adaptive(**changes):
    return adaptive_width.adaptive_width(adaptive_width.Config(num_episodes=10, initial_width=0.5, **changes), ENV)


def test_width_is_a_share_of_the_range_about_the_nominal_values():
    curriculum = adaptive()
    points, _ = draw(curriculum, curriculum.init())
    for dimension, (low, high) in {0: (0.25, 0.75), 2: (0.25, 0.75), DELAY: (0.0, 0.5)}.items():
        assert low <= points[:, dimension].min() < low + 0.01 and high - 0.01 < points[:, dimension].max() <= high
    shown = curriculum.metrics(curriculum.init())
    assert shown["curriculum/mass/low"] == 1.5 and shown["curriculum/mass/high"] == 2.5
    assert shown["curriculum/delay/low"] == 0.0 and shown["curriculum/delay/high"] == 1.0


@pytest.mark.parametrize(("successes", "width"), [(8, 0.55), (7, 0.5), (4, 0.5), (3, 0.45)])
def test_width_follows_the_success_rate(successes, width):
    curriculum = adaptive()
    state = told(curriculum, curriculum.init(), (), [1.0] * successes + [0.0] * (10 - successes))
    assert float(state.width) == pytest.approx(width) and float(state.rate) == pytest.approx(successes / 10)
    assert float(state.seen.episodes) == 0


def test_width_waits_for_enough_episodes_and_keeps_its_bounds():
    curriculum = adaptive()
    state = told(curriculum, curriculum.init(), (), [1.0] * 12, count=[1.0] * 9 + [0.0] * 3)
    assert float(state.width) == 0.5 and float(state.seen.episodes) == 9
    state = told(curriculum, state, (), [1.0])
    assert float(state.width) == pytest.approx(0.55)
    for _ in range(20):
        state = told(curriculum, state, (), [1.0] * 10)
    assert float(state.width) == 1.0
    for _ in range(60):
        state = told(curriculum, state, (), [0.0] * 10)
    assert float(state.width) == pytest.approx(0.01)


# ADR


def boundaries(**changes):
    return adr.adr(adr.Config(buffer=4, step=0.1, initial=0.5, **changes), ENV)


def test_adr_plays_a_share_of_the_episodes_at_one_end():
    curriculum = boundaries(boundary_share=0.4)
    points, tags = draw(curriculum, curriculum.init())
    ends = [(MASSES, 0.25), (MASSES, 0.75), (DELAY, 0.5)]  # the delay is nominally at its lower end: no way further down
    assert set(np.asarray(tags).tolist()) == {0, 1, 2, 3}
    for tag, (dimensions, value) in enumerate(ends):
        there = points[np.asarray(tags) == tag]
        np.testing.assert_allclose(there[:, dimensions], value, atol=1e-6)
        assert 0.1 < len(there) / len(points) < 0.17
        others = there[:, DELAY] if dimensions is not DELAY else there[:, 0]
        assert others.std() > 0.1, "only one parameter is at its end"
    free = points[np.asarray(tags) == 3]
    assert free[:, 0].min() >= 0.25 and free[:, 0].max() <= 0.75 and free[:, DELAY].max() <= 0.5 and free[:, 0].std() > 0.1


def test_adr_reaches_all_of_a_range_given_by_name():
    """Of one parameter, the first number is nominally at its lower end, another at its upper one."""
    env = ENV._replace(space=lines(("place",), (2,), (0.0,))._replace(center=(0.0, 1.0)))
    points, _ = draw(adr.adr(adr.Config(initial=1.0), env), adr.adr(adr.Config(initial=1.0), env).init())
    assert points[:, 0].max() > 0.99 and points[:, 1].min() < 0.01


def test_adr_moves_the_end_that_was_tried_and_no_other():
    curriculum = boundaries()
    state = told(curriculum, curriculum.init(), jnp.array([1, 1, 1, 1, 0, 3, 3, 3, 3]), [1, 1, 1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(state.out, [0.5, 0.6, 0.5])
    np.testing.assert_array_equal(state.buffers.episodes, [1, 0, 0])
    state = told(curriculum, state, jnp.array([2, 2, 2, 2, 0, 0, 0]), [0, 0, 1, 0, 1, 0, 1])
    np.testing.assert_allclose(state.out, [0.5, 0.6, 0.4])
    shown = curriculum.metrics(state)
    assert float(shown["curriculum/mass/high"]) == pytest.approx(2.6) and float(shown["curriculum/delay/high"]) == pytest.approx(0.8)


def test_adr_stays_within_the_whole_range():
    curriculum = boundaries()
    state = curriculum.init()
    for _ in range(20):
        state = told(curriculum, state, jnp.array([0] * 4 + [2] * 4), [1] * 4 + [0] * 4)
    np.testing.assert_allclose(state.out, [1.0, 0.5, 0.0], atol=1e-6)


# adversarial


def test_the_bandit_finds_where_the_policy_fails():
    curriculum = adversarial.adversarial(adversarial.Config(num_bins=4, uniform_share=0.2), ENV)
    state = curriculum.init()
    points, _ = draw(curriculum, state)
    assert abs((points[:, DELAY] > 0.75).mean() - 0.25) < 0.03, "it begins with the whole distribution"
    for _ in range(5):
        points, tags = draw(curriculum, state)
        state = told(curriculum, state, tags, points[:, DELAY] < 0.75)
    points, _ = draw(curriculum, state)
    assert (points[:, DELAY] > 0.75).mean() > 0.6
    assert points[:, DELAY].min() < 0.05, "nothing is forgotten"
    assert abs((points[:, 0] > 0.75).mean() - 0.25) < 0.15, "the masses do not matter"
    shown = curriculum.metrics(state)
    assert shown["curriculum/delay/worst_failure_rate"] > 0.95
    for _ in range(5):  # the policy has learnt it
        points, tags = draw(curriculum, state)
        state = told(curriculum, state, tags, np.ones(len(points)))
    points, _ = draw(curriculum, state)
    assert (points[:, DELAY] > 0.75).mean() < 0.4


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (adaptive_width.Config, {"target": 0.0}, "target is 0.0"),
        (adaptive_width.Config, {"initial_width": 0.001}, "initial_width is 0.001, below smallest_width"),
        (adr.Config, {"narrow_below": 0.9}, "narrow_below is 0.9, but must be at least 0 and below widen_above, 0.8"),
        (adr.Config, {"buffer": 0}, "buffer is 0"),
        (adversarial.Config, {"temperature": 0.0}, "temperature is 0.0"),
        (adversarial.Config, {"num_bins": 1}, "num_bins is 1"),
    ],
)
def test_impossible_numbers_are_refused(config, values, message):
    with pytest.raises(ValueError, match=message):
        config(**values)
