"""Whole episodes: what belongs to one, and what the report makes of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.evaluation import report
from jaxrl.evaluation.play import Played, draw, play, repeat
from jaxrl.policies.constant import constant
from jaxrl.types import ArraySpec, Env, EnvSpec, Policy, PolicySpec, TimeStep

LENGTH = 6
SPEC = PolicySpec({"state/count": ArraySpec((1,))}, ArraySpec((1,)))


def countdown() -> Env:
    """Pays 1 a step and terminates after as many steps as its physics says; physics below 0 makes the third step infinite."""
    spec = EnvSpec("countdown", SPEC.observation, SPEC.action, LENGTH, 0.1, ("count", "command/limit", "reward/parts"))

    def reset(key, limit):
        return jnp.zeros(()), {"state/count": jnp.zeros(1)}

    def step(count, action, limit, key):
        count = jnp.where((limit < 0) & (count == 2), jnp.inf, count + 1)
        over = (limit > 0) & (count >= limit)
        metrics = {"count": count, "command/limit": limit, "reward/parts": count}
        return count, TimeStep({"state/count": count[None]}, jnp.ones(()), jnp.where(over, 0.0, 1.0), jnp.zeros(()), metrics)

    def restart(count, limit, key):
        return count, {"state/count": count[None]}

    return Env(spec, reset, step, restart, nominal=jnp.zeros(()), sample=lambda key: jnp.round(jax.random.uniform(key) * 5))


@pytest.fixture(scope="module")
def played() -> Played:
    return jax.device_get(play(countdown(), constant(SPEC))((), jnp.array([2.0, 4.0, 0.0, -1.0]), jax.random.key(0)))


def test_steps_after_the_end_do_not_count(played):
    np.testing.assert_array_equal(played.alive.sum(0), [2, 4, 6, 2])
    np.testing.assert_array_equal(played.terminated, [True, True, False, False])
    np.testing.assert_array_equal(played.diverged, [False, False, False, True])


def test_a_state_that_is_not_finite_ends_the_episode_though_nothing_shows_it():
    env = countdown()

    def step(count, action, limit, key):
        later, result = env.step(count, action, limit, key)
        return jnp.where(count == 2, jnp.nan, later), result

    out = jax.device_get(play(env._replace(step=step), constant(SPEC))((), jnp.array([2.0, 0.0]), jax.random.key(0)))
    np.testing.assert_array_equal(out.alive.sum(0), [2, 2])
    np.testing.assert_array_equal(out.diverged, [False, True])
    np.testing.assert_array_equal(out.terminated, [True, False])


def test_physics_without_leaves_needs_the_number_of_episodes():
    env = countdown()

    def step(count, action, physics, key):
        return env.step(count, action, jnp.zeros(()), key)

    bare = env._replace(step=step, nominal={}, sample=lambda key: {})
    out = play(bare, constant(SPEC), num_episodes=3)((), draw(bare.sample, jax.random.key(0), 3), jax.random.key(0))
    assert out.alive.shape == (LENGTH, 3) and out.alive.all()
    with pytest.raises(ValueError, match="no leaves to count the episodes by; give it num_episodes"):
        play(bare, constant(SPEC))((), repeat(bare.nominal, 3), jax.random.key(0))


def test_what_a_policy_tells_of_itself_is_a_result():
    extras = {"policy/decoded": ArraySpec(()), "log_prob": ArraySpec(())}

    def act(params, observation, carry, key, context=None):
        told = (observation["state/count"][:, 0] < 4).astype(jnp.float32)  # of the inferences at 0, 2 and 4
        return jnp.zeros((key.shape[0], 2, 1)), carry, {"policy/decoded": told, "log_prob": told}

    policy = Policy(SPEC._replace(horizon=2, executed_steps=2, extras=extras), lambda size: (), act)
    values = report.metrics_of(jax.device_get(play(countdown(), policy)((), jnp.array([3.0, 0.0]), jax.random.key(0))))
    np.testing.assert_allclose(values["policy/decoded"], [1.0, 4 / 6])
    assert "log_prob" not in values


def test_report_averages_steps_then_episodes(played):
    values = report.metrics_of(played)
    np.testing.assert_array_equal(values["return"], [2, 4, 6, 2])
    np.testing.assert_allclose(values["count"], [1.5, 2.5, 3.5, 1.5])
    assert not any(name.startswith(("command/", "reward/")) for name in values)
    figures = report.intervals(played)
    assert figures["fall_rate"]["value"] == 0.5 and figures["return"]["value"] == 3.5 and figures["return"]["n"] == 4


def test_breakdowns_name_their_bins(played):
    bins = report.by_condition(played)["command/limit"]
    assert bins[0]["low"] == -1.0 and bins[-1]["high"] == 4.0 and sum(row["count"]["n"] for row in bins) == 4
    by = report.by_parameter(played, {"limit": np.array([2.0, 4.0, 0.0, -1.0])})["limit"]
    assert by[-1]["return"]["value"] == 4.0
    assert report.by_parameter(played, {"same": np.ones(4)}) == {}


def test_chunks_are_executed_whole_before_the_next_inference():
    asked = PolicySpec(SPEC.observation, SPEC.action, horizon=4, executed_steps=3)

    def act(params, observation, carry, key, context=None):
        first = observation["state/count"]
        return first[:, None] + jnp.arange(4.0)[None, :, None], carry, {}

    chunked = Policy(asked, lambda size: (), act)
    out = play(countdown(), chunked, keep=lambda step: step.action)((), jnp.zeros(2), jax.random.key(0))
    np.testing.assert_array_equal(out.kept[:, 0, 0], [0, 1, 2, 3, 4, 5])


def test_a_policy_remembers_within_an_episode_and_begins_the_next_call_anew():
    def act(params, observation, carry, key, context=None):
        later = {"seen": carry["seen"] + 1.0}
        return later["seen"][:, None, None] + 10 * observation["state/count"][:, None], later, {}

    counting = Policy(SPEC, lambda size: {"seen": jnp.zeros(size)}, act)
    run = play(countdown(), counting, keep=lambda step: step.action)
    for _ in range(2):  # every step of every world has been counted, and its own observation was seen
        out = jax.device_get(run((), jnp.array([0.0, 3.0]), jax.random.key(0)))
        np.testing.assert_array_equal(out.kept[:, 0, 0], 1 + 11 * np.arange(LENGTH))
        np.testing.assert_array_equal(out.kept[:3, 1, 0], [1, 12, 23])


def test_draws_differ_and_repeats_do_not():
    env = countdown()
    assert len(set(np.asarray(draw(env.sample, jax.random.key(0), 50)).tolist())) > 3
    np.testing.assert_array_equal(repeat(env.nominal, 3), 0.0)
