"""Getting up: where episodes begin, what pays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_envs.tasks.go2_recovery import Config, go2_recovery, model

B = 32


@pytest.fixture(scope="module")
def env():
    return go2_recovery()


@pytest.fixture(scope="module")
def begun(env):
    parameters = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (B, *x.shape)), env.nominal)
    return *jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), B), parameters), parameters


def test_episodes_begin_at_rest_in_any_attitude_above_the_ground(begun):
    state, observation, _ = begun
    down = np.asarray(observation["state/gravity"][:, 2])
    assert (down < -0.7).any() and (down > 0.7).any() and (np.abs(down) < 0.5).any()
    assert np.median(np.abs(np.asarray(state.physics.qvel[:, :3]))) < 0.05
    assert np.asarray(state.physics.qpos[:, 2]).min() > 0.03, "the base collides with the floor"


def test_standing_is_success_and_pays_most(env, begun):
    state, _, parameters = begun
    home = np.asarray(model().key_qpos[0], np.float32)
    home[2] = 0.265
    standing = state.physics._replace(qpos=state.physics.qpos.at[0].set(home), qvel=state.physics.qvel.at[0].set(0.0))
    back = home.copy()
    back[3:7] = [0.0, 1.0, 0.0, 0.0]
    standing = standing._replace(qpos=standing.qpos.at[1].set(back), qvel=standing.qvel.at[1].set(0.0))
    _, result = jax.jit(jax.vmap(env.step))(
        state._replace(physics=standing), jnp.zeros((B, 12)), parameters, jax.random.split(jax.random.key(0), B)
    )
    assert result.metrics["success"][0] == 1 and result.metrics["success"][1] == 0
    assert result.reward[0] > 0.9 * 3.5 * 0.02 and result.reward[0] == result.reward.max()
    assert result.metrics["tilt"][0] < 0.1 and result.metrics["tilt"][1] > 3.0
    np.testing.assert_array_equal(result.discount, 1)


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="action_scale is 0.0"):
        Config(action_scale=0.0)
