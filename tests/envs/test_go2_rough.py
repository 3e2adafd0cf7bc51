"""Rough ground under the joystick task: where episodes begin, what is seen, what counts as height."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_envs import terrain as terrains
from jaxrl_envs.randomization import Ranges
from jaxrl_envs.tasks.go2_rough import SCAN, Config, Scan, go2_rough

GROUND = terrains.Config(kinds=("stairs_up", "stairs_down"), levels=3, tile_size=6.0, border=2.0)
CONFIG = Config(randomization=Ranges(terrain=(0.0, 1.0)), terrain=GROUND, scan=Scan(0.6, 0.3, 0.3))
B = 6


@pytest.fixture(scope="module")
def env():
    return go2_rough(CONFIG)


@pytest.fixture(scope="module")
def field():
    return terrains.terrain(GROUND, 0)


@pytest.fixture(scope="module")
def begun(env):
    """Worlds of every level, and their parameters."""
    parameters = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (B, *x.shape)), env.nominal)
    parameters = parameters._replace(terrain=jnp.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]))
    state, observation = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), B), parameters)
    return state, observation, parameters


def test_episodes_begin_on_the_level_they_are_told(begun, field):
    state, observation, _ = begun
    place = np.asarray(state.physics.qpos[:, :3])
    for world, level in enumerate([0, 0, 1, 1, 2, 2]):
        distance = np.abs(field.origins[level] + [0, 0, 0.35] - place[world]).max(-1)
        assert distance.min() < 1e-5
    assert len({tuple(p) for p in place}) > 3, "kinds are drawn"
    np.testing.assert_allclose(observation["privileged/height"], 0.35, atol=0.01)
    assert observation["privileged/foot_height"].min() > 0.022, "no foot begins in the ground"


def test_an_episode_is_cut_before_the_ground_ends(env, begun, field):
    """Extents are 3 * 6 m along x and 2 * 6 m along y, with 2 m around: the rim lies half a metre inside."""
    np.testing.assert_allclose(
        terrains.inward(field, np.array([[10.9, 0.0], [0.0, -7.5], [11.2, 0.0]], np.float32)), [0.1, 0.5, -0.2], atol=1e-5
    )
    state, _, parameters = begun
    x, y = np.array([0.0, 10.4, 10.6, -10.6, 0.0, 0.0], np.float32), np.array([0.0, 0.0, 0.0, 0.0, 7.4, 7.6], np.float32)
    height = terrains.height_at(field, np.stack([x, y], -1)) + 0.35
    moved = state.physics.qpos.at[:, :3].set(jnp.stack([x, y, height], -1))
    moved = state._replace(physics=state.physics._replace(qpos=moved, qvel=jnp.zeros_like(state.physics.qvel)))
    _, now = jax.jit(jax.vmap(env.step))(moved, jnp.zeros((B, 12)), parameters, jax.random.split(jax.random.key(2), B))
    np.testing.assert_array_equal(now.truncation, [0, 0, 1, 1, 0, 1])


def test_restart_moves_the_robot_to_its_new_ground(env, begun, field):
    state, _, parameters = begun
    elsewhere = parameters._replace(terrain=parameters.terrain[::-1])
    moved, observation = jax.vmap(env.restart)(state, elsewhere, jax.random.split(jax.random.key(1), B))
    for world, level in enumerate([2, 2, 1, 1, 0, 0]):
        assert np.abs(field.origins[level] - np.asarray(moved.origin[world])).max(-1).min() < 1e-6
    np.testing.assert_allclose(moved.physics.qpos[:, :3] - moved.origin, state.physics.qpos[:, :3] - state.origin, atol=1e-5)
    feet = {"state/joint_position", "privileged/foot_height", "privileged/height"}
    fresh, seen = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), B), elsewhere)
    del fresh
    for name in feet:
        np.testing.assert_allclose(observation[name], seen[name], atol=1e-4, err_msg=name)


def test_it_stands_on_the_ground_and_sees_it(env, begun, field):
    state, _, parameters = begun
    step = jax.jit(jax.vmap(env.step))
    for t in range(40):
        state, result = step(state, jnp.zeros((B, 12)), parameters, jax.random.split(jax.random.key(t), B))
    np.testing.assert_array_equal(result.discount, 1)
    np.testing.assert_array_equal(result.observation["privileged/contact"], 1)
    np.testing.assert_allclose(result.observation["privileged/height"], 0.26, atol=0.02)
    scan = np.asarray(result.observation[SCAN]).reshape(B, 5, 3)
    np.testing.assert_allclose(scan[:, 2, 1], -0.26, atol=0.02)
    ahead = np.asarray(state.physics.qpos[:, :3])
    yaw = 2 * np.arctan2(state.physics.qpos[:, 6], state.physics.qpos[:, 3])
    point = ahead[:, :2] + 0.6 * np.stack([np.cos(yaw), np.sin(yaw)], -1)
    expected = np.asarray(terrains.height_at(field, jnp.asarray(point, jnp.float32))) - ahead[:, 2]
    np.testing.assert_allclose(scan[:, 4, 1], np.clip(expected, -1, 1), atol=0.01)


def test_success_is_to_have_gone_where_the_command_pointed(env, begun):
    state, _, parameters = begun
    way = jnp.array([[2.0, 1.9], [2.0, 1.5], [2.0, 1.3], [2.0, -1.0], [0.0, 0.0], [2.0, 1.9]])
    still = state._replace(way=way, command=jnp.zeros((B, 3)))
    side = still.physics.qpos.at[5, 3:7].set(jnp.array([np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0]))
    fallen = still._replace(physics=still.physics._replace(qpos=side))
    _, result = jax.vmap(env.step)(fallen, jnp.zeros((B, 12)), parameters, jax.random.split(jax.random.key(0), B))
    np.testing.assert_array_equal(result.metrics["success"], [1, 1, 0, 0, 1, 0])


def test_impossible_scans_are_refused():
    with pytest.raises(ValueError, match="expected spacing > 0"):
        Scan(spacing=0.0)
