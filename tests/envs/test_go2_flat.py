"""The robot's facts, what the task shows and what it pays for."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl_envs.randomization import Ranges
from jaxrl_envs.tasks._go2 import JOINTS, model
from jaxrl_envs.tasks.go2_flat import Config, go2_flat

B = 4


@pytest.fixture(scope="module")
def env():
    return go2_flat(Config(randomization=Ranges(action_delay=(0.0, 0.02), joint_offset=(-0.03, 0.03), push_velocity=(0.0, 0.5))))


@pytest.fixture(scope="module")
def step(env):
    return jax.jit(jax.vmap(env.step))


def worlds(env, **changes):
    parameters = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (B, *x.shape)), env.nominal)._replace(**changes)
    state, observation = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), B), parameters)
    return state, observation, parameters


def test_robot_has_the_published_mass_joints_and_limits():
    compiled = model()
    assert compiled.body_mass.sum() == pytest.approx(15.206408, abs=1e-6)
    assert tuple(compiled.joint(i).name for i in range(1, 13)) == JOINTS == tuple(compiled.actuator(i).name for i in range(12))
    calf = [i for i, name in enumerate(JOINTS) if name.endswith("calf")]
    np.testing.assert_allclose(compiled.actuator_forcerange[calf, 1], 45.43)
    rear = compiled.joint("RL_thigh")
    np.testing.assert_allclose(rear.range, [-0.5236, 4.5379])
    assert compiled.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_AUTORESET  # bad states must be seen, not silently reset


def test_it_stands_still_when_told_nothing(env, step):
    state, _, parameters = worlds(env)
    for t in range(100):
        state, result = step(state, jnp.zeros((B, 12)), parameters, jax.random.split(jax.random.key(t), B))
    np.testing.assert_array_equal(result.discount, 1)
    np.testing.assert_allclose(state.physics.qpos[:, 2], 0.26, atol=0.02)
    np.testing.assert_array_equal(result.observation["privileged/contact"], 1)
    assert float(jnp.abs(result.observation["privileged/velocity"]).max()) < 0.05


def test_lying_on_its_side_is_a_fall(env, step):
    state, _, parameters = worlds(env)
    side = jnp.array([np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0], jnp.float32)
    qpos = state.physics.qpos.at[1, 3:7].set(side)
    state = state._replace(physics=state.physics._replace(qpos=qpos))
    _, result = step(state, jnp.zeros((B, 12)), parameters, jax.random.split(jax.random.key(0), B))
    np.testing.assert_array_equal(result.discount, [1, 0, 1, 1])
    assert result.metrics["reward/fall"][1] < 0 and result.metrics["reward/fall"][0] == 0


def test_feet_are_paid_for_following_the_clock(env, step):
    """A robot with all feet on the ground: right while all should stand, half right in a trot, and its swinging feet are too low."""
    state, _, parameters = worlds(env)
    wanted = jnp.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.5, 0.0, 0.0]])
    at_rest = state.physics._replace(qvel=jnp.zeros((B, 18)))
    state = state._replace(command=wanted, phase=jnp.array([0.25, 0.25, 0.75, 0.0]), physics=at_rest)
    for _ in range(20):  # until it stands
        later, _ = step(state, jnp.zeros((B, 12)), parameters, jax.random.split(jax.random.key(0), B))
        state = state._replace(physics=later.physics)
    _, result = step(state, jnp.zeros((B, 12)), parameters, jax.random.split(jax.random.key(0), B))
    np.testing.assert_allclose(result.metrics["reward/gait"] / 0.02, [1.0, 0.5, 0.5, 1.0], atol=1e-5)
    low = result.metrics["reward/clearance"] / 0.02 / -10.0
    np.testing.assert_allclose(low[1:3], 2 * 0.08**2, rtol=0.3)
    assert low[0] < 5e-4  # soft contacts: a few millimetres
    clock = result.observation["state/gait"]
    np.testing.assert_array_equal(clock[0], 0)
    np.testing.assert_allclose(clock[1], -clock[2], atol=1e-5)


def test_following_the_command_pays_most(env, step):
    state, _, parameters = worlds(env)
    wanted = jnp.broadcast_to(jnp.array([[0.5, 0.0, 0.0]]), (B, 3))
    speed = jnp.array([0.5, 0.25, 0.0, -0.5])
    rotation = state.physics.qpos[:, 3:7]
    yaw = 2 * jnp.arctan2(rotation[:, 3], rotation[:, 0])
    qvel = jnp.zeros((B, 18)).at[:, 0].set(speed * jnp.cos(yaw)).at[:, 1].set(speed * jnp.sin(yaw))
    state = state._replace(command=wanted, physics=state.physics._replace(qvel=qvel))
    _, result = step(state, jnp.zeros((B, 12)), parameters, jax.random.split(jax.random.key(0), B))
    assert (np.diff(result.metrics["reward/track_velocity"]) < 0).all()
    assert (np.diff(result.metrics["velocity_error"]) > 0).all()


def test_delay_keeps_the_old_target_for_its_time(env, step):
    action = jnp.ones((B, 12))
    keys = jax.random.split(jax.random.key(0), B)
    start, _, parameters = worlds(env)
    late = parameters._replace(action_delay=jnp.array([0.0, 0.0049, 0.011, 0.02]))
    after, _ = step(start, action, late, keys)
    moved = np.abs(
        np.asarray(after.physics.qvel[:, 6:]) - np.asarray(step(start, jnp.zeros((B, 12)), parameters, keys)[0].physics.qvel[:, 6:])
    ).max(1)
    assert moved[3] == 0 and moved[0] > moved[1] > moved[2] > 0


def test_encoder_offset_shifts_reading_and_motor_alike(env, step):
    start, _, parameters = worlds(env)
    shifted = parameters._replace(joint_offset=jnp.full((B, 12), 0.03))
    _, observation = jax.vmap(env.restart)(start, shifted, jax.random.split(jax.random.key(0), B))
    _, plain = jax.vmap(env.restart)(start, parameters, jax.random.split(jax.random.key(0), B))
    np.testing.assert_allclose(observation["state/joint_position"] - plain["state/joint_position"], 0.03, atol=1e-6)
    np.testing.assert_array_equal(observation["privileged/joint_position"], plain["privileged/joint_position"])


def test_pushes_change_the_velocity_by_at_most_their_size():
    env = go2_flat(Config(push_seconds=0.02, randomization=Ranges(push_velocity=(0.5, 0.5))))
    many = 64
    parameters = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (many, *x.shape)), env.nominal)
    state, _ = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), many), parameters)
    keys = jax.random.split(jax.random.key(1), many)
    pushed = parameters._replace(push_velocity=jnp.full(many, 0.5))
    calm, _ = jax.vmap(env.step)(state, jnp.zeros((many, 12)), parameters, keys)
    kicked, _ = jax.vmap(env.step)(state, jnp.zeros((many, 12)), pushed, keys)
    change = np.linalg.norm(np.asarray(kicked.physics.qvel - calm.physics.qvel)[:, :2], axis=1)
    assert 0.1 < change.max() < 0.6 and np.median(change) > 0.02


def test_commands_are_those_promised():
    env = go2_flat(Config(command_seconds=0.02))
    many = 2000
    parameters = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (many, *x.shape)), env.nominal)
    state, _ = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), many), parameters)
    state, _ = jax.vmap(env.step)(state, jnp.zeros((many, 12)), parameters, jax.random.split(jax.random.key(1), many))
    command = np.asarray(state.command)
    standing = (command == 0).all(1)
    assert 0.07 < standing.mean() < 0.13
    moving = command[~standing]
    np.testing.assert_allclose(moving.min(0), [-0.6, -0.4, -1.0], atol=0.02)
    np.testing.assert_allclose(moving.max(0), [1.0, 0.4, 1.0], atol=0.02)


def test_a_delay_beyond_one_control_step_is_refused():
    with pytest.raises(ValueError, match=r"up to 0.03 s, but the buffer holds 1 control steps of 0.02 s; it needs 2 \(delay_steps=2\)"):
        go2_flat(Config(randomization=Ranges(action_delay=(0.0, 0.03))))
