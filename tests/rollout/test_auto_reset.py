"""Ends of episodes: true final observations, fresh physics, quarantine."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.curricula.static import fixed
from jaxrl.rollout.auto_reset import Draws, auto_reset
from jaxrl.types import ArraySpec, Env, EnvSpec, TimeStep

LENGTH = 7
DRAWS = Draws((), ())  # of a curriculum without state


def counting_env() -> Env:
    """Counts its steps, shows the count and its physics; action 1 terminates, action 2 makes the state NaN, and action 3 the discount."""
    spec = EnvSpec("counting", {"state/count": ArraySpec((2,))}, ArraySpec((1,)), LENGTH, 0.1, ("count",))

    def observe(count, parameters):
        return {"state/count": jnp.stack([count, parameters])}

    def reset(key, parameters):
        return jnp.zeros(()), observe(jnp.zeros(()), parameters)

    def step(count, action, parameters, key):
        count = jnp.where(action[0] == 2, jnp.nan, count + 1)
        discount = jnp.where(action[0] == 1, 0.0, jnp.where(action[0] == 3, jnp.nan, 1.0))
        return count, TimeStep(observe(count, parameters), count, discount, jnp.zeros(()), {"count": count})

    def restart(count, parameters, key):
        return count, observe(count, parameters)

    return Env(spec, reset, step, restart, nominal=jnp.zeros(()), sample=jax.random.uniform)


@pytest.fixture(scope="module")
def worlds():
    built = auto_reset(counting_env(), fixed(jax.random.uniform), pool_size=4, stagger=False)
    pool = built.pool(jax.random.key(0), DRAWS)
    start = built.init(jax.random.key(1), jnp.arange(5, dtype=jnp.int32), pool, DRAWS)

    @jax.jit
    def step(worlds, action, key):
        worlds, _, result, ended = built.step(worlds, action, pool, DRAWS, key)
        return worlds, result, ended

    return start, step


def test_truncation_shows_the_true_final_observation_and_starts_anew(worlds):
    state, step = worlds
    first_physics = state.parameters
    for t in range(LENGTH):
        state, result, ended = step(state, jnp.zeros((5, 1)), jax.random.key(t))
    np.testing.assert_array_equal(ended, True)
    np.testing.assert_array_equal(result.truncation, 1)
    np.testing.assert_array_equal(result.discount, 1)
    np.testing.assert_array_equal(result.observation["state/count"][:, 0], LENGTH)
    np.testing.assert_array_equal(state.observation["state/count"][:, 0], 0)
    np.testing.assert_array_equal(state.env, 0)
    assert len(set(np.asarray(state.parameters).tolist()) | set(np.asarray(first_physics).tolist())) == 10, "physics must be drawn anew"
    np.testing.assert_array_equal(state.observation["state/count"][:, 1], state.parameters)
    np.testing.assert_array_equal(state.episodes.finished, 1)
    np.testing.assert_array_equal(state.episodes.reward, LENGTH * (LENGTH + 1) / 2)


def test_parameters_that_no_draw_changes_are_not_written_at_resets():
    def writes(constants: int) -> int:
        plain, kept = counting_env(), tuple(jnp.full(3, k) for k in range(constants))
        env = plain._replace(
            reset=lambda key, parameters: plain.reset(key, parameters[0]),
            step=lambda count, action, parameters, key: plain.step(count, action, parameters[0], key),
            restart=lambda count, parameters, key: plain.restart(count, parameters[0], key),
        )
        built = auto_reset(env, fixed(lambda key: (jax.random.uniform(key), kept)), pool_size=4)
        pool = built.pool(jax.random.key(0), DRAWS)
        start = built.init(jax.random.key(1), jnp.arange(5, dtype=jnp.int32), pool, DRAWS)
        after = built.step(start, jnp.ones((5, 1)), pool, DRAWS, jax.random.key(2))[0]  # all terminate
        for k, constant in enumerate(after.parameters[1]):
            np.testing.assert_array_equal(constant, np.full((5, 3), k))
        assert (after.parameters[0] != start.parameters[0]).all()
        return str(jax.make_jaxpr(built.step)(start, jnp.ones((5, 1)), pool, DRAWS, jax.random.key(2))).count(" scatter[")

    assert writes(0) == writes(4) > 0


def test_termination_is_no_truncation_even_at_the_last_step(worlds):
    state, step = worlds
    for t in range(LENGTH - 1):
        state, _, _ = step(state, jnp.zeros((5, 1)), jax.random.key(t))
    action = jnp.zeros((5, 1)).at[2].set(1.0)
    state, result, ended = step(state, action, jax.random.key(99))
    np.testing.assert_array_equal(result.discount, [1, 1, 0, 1, 1])
    np.testing.assert_array_equal(result.truncation, [1, 1, 0, 1, 1])
    np.testing.assert_array_equal(ended, True)
    np.testing.assert_array_equal(state.episodes.terminated, [0, 0, 1, 0, 0])


@pytest.mark.parametrize("what", [2.0, 3.0])
def test_a_diverged_world_is_quarantined_and_touches_no_other(worlds, what):
    state, step = worlds
    healthy, _, _ = step(state, jnp.zeros((5, 1)), jax.random.key(0))
    bad, result, ended = step(state, jnp.zeros((5, 1)).at[3].set(what), jax.random.key(0))
    np.testing.assert_array_equal(ended, [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(bad.episodes.diverged, [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(bad.episodes.finished, 0)
    assert result.reward[3] == 0 and result.truncation[3] == 1 and result.discount[3] == 1
    np.testing.assert_array_equal(result.observation["state/count"][3], state.observation["state/count"][3])
    others = jnp.array([0, 1, 2, 4])
    for a, b in zip(jax.tree.leaves(healthy), jax.tree.leaves(bad), strict=True):
        np.testing.assert_array_equal(a[others], b[others])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(bad))


def test_randomness_follows_the_global_index_not_the_position():
    built = auto_reset(counting_env(), fixed(jax.random.uniform), pool_size=4)
    pool = built.pool(jax.random.key(0), DRAWS)
    whole = built.init(jax.random.key(1), jnp.arange(6, dtype=jnp.int32), pool, DRAWS)
    half = built.init(jax.random.key(1), jnp.arange(3, 6, dtype=jnp.int32), pool, DRAWS)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(half), strict=True):
        np.testing.assert_array_equal(a[3:], b)


def test_stagger_spreads_the_first_ends_and_leaves_partial_episodes_out():
    built = auto_reset(counting_env(), fixed(jax.random.uniform), pool_size=4, stagger=True)
    pool = built.pool(jax.random.key(0), DRAWS)
    state = built.init(jax.random.key(1), jnp.arange(200, dtype=jnp.int32), pool, DRAWS)
    assert set(np.asarray(state.clock).tolist()) == set(range(LENGTH))
    step = jax.jit(lambda w, k: built.step(w, jnp.zeros((200, 1)), pool, DRAWS, k))
    for t in range(LENGTH):
        state, _, _, ended = step(state, jax.random.key(t))
        assert 5 < int(ended.sum()) < 60
    whole = np.asarray(state.episodes.finished)
    lengths = np.asarray(state.episodes.length)
    assert (lengths[whole > 0] == LENGTH * whole[whole > 0]).all()
