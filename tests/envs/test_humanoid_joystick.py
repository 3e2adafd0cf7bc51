"""What the humanoid's task shows and what it pays for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_envs.randomization import Ranges
from jaxrl_envs.tasks import _humanoid, humanoid_joystick
from jaxrl_envs.tasks.humanoid_joystick import JOINTS, Config

B = 4


@pytest.fixture(scope="module")
def env():
    return humanoid_joystick.humanoid_joystick(Config(randomization=Ranges(action_delay=(0.0, 0.02), push_velocity=(0.0, 0.5))))


@pytest.fixture(scope="module")
def start(env):
    parameters = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (B, *x.shape)), env.nominal)
    state, observation = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), B), parameters)
    return state, observation, parameters


@pytest.fixture(scope="module")
def step(env):
    return jax.jit(jax.vmap(env.step))


def keys(seed=0, count=B):
    return jax.random.split(jax.random.key(seed), count)


def upright(state):
    """`state` at rest in the standing pose."""
    home = jnp.asarray(_humanoid.model().key("knees_bent").qpos, jnp.float32)
    physics = state.physics
    return state._replace(physics=physics._replace(qpos=jnp.tile(home[None], (B, 1)), qvel=jnp.zeros_like(physics.qvel)))


def test_names_are_the_models_own():
    model = _humanoid.model()
    assert tuple(model.joint(i).name for i in range(1, 30)) == JOINTS == tuple(model.actuator(i).name for i in range(29))


def test_standing_as_told_pays_well_for_as_long_as_it_lasts(start, step):
    """Held still, it stays up for more than half a second, and falls within two: see the robot's own test."""
    state, _, parameters = start
    state = upright(state)._replace(command=jnp.zeros((B, 3)))
    up, paid = [], []
    for t in range(100):
        state, result = step(state, jnp.zeros((B, 29)), parameters, keys(t))
        state = state._replace(command=jnp.zeros((B, 3)))
        up.append(np.asarray(result.discount))
        paid.append(np.asarray(result.reward))
    up = np.cumprod(up, 0)
    assert up[30].all() and not up[-1].any()
    assert 2.5 < np.mean(paid[:20]) / 0.02 < 5.0
    assert (paid[int(up[:, 0].sum())][0] < -1.0) and np.isfinite(paid).all()


def test_observations_are_of_the_state(start, env):
    state, observation, parameters = start
    assert {name: tuple(v.shape[1:]) for name, v in observation.items()} == {n: s.shape for n, s in env.spec.observation.items()}
    home = _humanoid.model().key("knees_bent").qpos[7:]
    joints = np.asarray(state.physics.qpos)[:, 7:]
    np.testing.assert_allclose(observation["state/joint_position"], joints - home, atol=1e-6)
    np.testing.assert_allclose(observation["state/gravity"], [[0, 0, -1]] * B, atol=1e-5)
    np.testing.assert_array_equal(observation["state/gyroscope"], state.physics.qvel[:, 3:6])
    assert np.abs(joints - home).max() <= 0.05 + 1e-6
    heavier = parameters._replace(payload=parameters.payload.at[:, _humanoid.model().body("torso").id].set(2.0))
    _, seen = jax.jit(jax.vmap(env.restart))(state, heavier, keys())
    np.testing.assert_array_equal(seen["privileged/parameters"][:, 1], 2.0)


def test_too_low_or_too_tilted_is_a_fall(start, step):
    state, _, parameters = start
    state = upright(state)
    lying = jnp.array([np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0], jnp.float32)
    qpos = state.physics.qpos.at[1, 3:7].set(lying).at[2, 2].set(0.4)
    state = state._replace(physics=state.physics._replace(qpos=qpos))
    _, result = step(state, jnp.zeros((B, 29)), parameters, keys())
    np.testing.assert_array_equal(result.discount, [1, 0, 0, 1])
    np.testing.assert_allclose(result.metrics["reward/fall"], [0, -2, -2, 0])
    np.testing.assert_array_equal(result.metrics["success"][1:3], 0)


def test_feet_are_paid_for_following_the_clock(start, step):
    """A robot on both feet: right while both should stand, half right while one should swing, and that one is too low."""
    state, _, parameters = start
    state = upright(state)
    wanted = jnp.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.5, 0.0, 0.0]])
    for _ in range(8):  # until it stands
        state = state._replace(command=wanted, phase=jnp.array([0.25, 0.25, 0.75, 0.0]))
        state, result = step(state, jnp.zeros((B, 29)), parameters, keys())
    np.testing.assert_array_equal(result.observation["privileged/contact"], 1)
    np.testing.assert_allclose(result.metrics["reward/gait"] / 0.02, [1.0, 0.5, 0.5, 1.0], atol=1e-5)
    low = result.metrics["reward/clearance"] / 0.02 / -20.0
    np.testing.assert_allclose(low[1:3], 0.08**2, rtol=0.4)
    assert low[0] < 5e-4 and low[3] < 5e-4  # soft contacts: a few millimetres


def test_swings_last_their_share_of_the_period():
    phases = np.linspace(0, 1, 1000, endpoint=False, dtype=np.float32)
    lifted = np.stack([humanoid_joystick.lift(Config(swing_share=0.3), jnp.asarray(p), jnp.ones(())) for p in phases[::10]])
    np.testing.assert_allclose((lifted > 0).mean(0), 0.3, atol=0.02)
    np.testing.assert_allclose(lifted.max(0), 1.0, atol=1e-3)
    assert not (lifted > 0).all(1).any()  # one foot is always on the ground


def test_following_the_command_pays_most(start, step):
    state, _, parameters = start
    state = upright(state)
    speed = jnp.array([0.5, 0.25, 0.0, -0.5])
    qvel = jnp.zeros((B, 35)).at[:, 0].set(speed)
    state = state._replace(command=jnp.tile(jnp.array([[0.5, 0.0, 0.0]]), (B, 1)), physics=state.physics._replace(qvel=qvel))
    _, result = step(state, jnp.zeros((B, 29)), parameters, keys())
    assert (np.diff(result.metrics["reward/track_velocity"]) < 0).all()
    assert (np.diff(result.metrics["velocity_error"]) > 0).all()


def test_a_unit_of_action_asks_for_a_share_of_the_torque(start):
    robot = _humanoid.robot(_humanoid.model())
    moved = dict(zip(JOINTS, humanoid_joystick.target(Config(), robot, jnp.ones(29)) - robot.home, strict=True))
    assert moved["left_hip_pitch"] == pytest.approx(0.25 * 88 / 75, abs=1e-6) and moved["left_elbow"] == pytest.approx(0.25 * 25 / 75)
    assert moved["right_wrist_roll"] == pytest.approx(0.5)  # soft, so cut off
    far = humanoid_joystick.target(Config(), robot, jnp.full(29, 100.0))
    np.testing.assert_array_equal(far, robot.target_range[:, 1])


def test_commands_are_those_promised():
    draws = jax.random.uniform(jax.random.key(0), (2000, 4))
    wanted = np.asarray(jax.vmap(lambda d: humanoid_joystick.command(Config(), d))(draws))
    standing = (wanted == 0).all(1)
    assert 0.07 < standing.mean() < 0.13
    np.testing.assert_allclose(wanted[~standing].min(0), [-0.5, -0.3, -0.8], atol=0.02)
    np.testing.assert_allclose(wanted[~standing].max(0), [0.8, 0.3, 0.8], atol=0.02)


def test_pushes_come_when_drawn_and_change_the_velocity_by_at_most_their_size(start):
    state, _, parameters = start
    config = Config(push_seconds=10.0)
    now, draws = jnp.array([0.0, 0.0019, 0.0021, 1.0]), jnp.tile(jnp.array([[0.25, 0.5]]), (B, 1))
    strong = parameters._replace(push_velocity=jnp.full(B, 0.4))
    after = jax.vmap(lambda s, p, n, d: humanoid_joystick.pushed(config, s, p, n, d))(state.physics, strong, now, draws)
    change = after.qvel - state.physics.qvel
    np.testing.assert_allclose(change[:, 1], [0.2, 0.2, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(np.delete(change, 1, axis=1), 0.0, atol=1e-6)


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="forward: the lower bound 1.0 is above the upper bound 0.0"):
        Config(forward=(1.0, 0.0))
    with pytest.raises(ValueError, match="swing_share is 1.0, but must lie between 0 and 1"):
        Config(swing_share=1.0)
    with pytest.raises(ValueError, match="substeps is 0, but must be positive"):
        Config(substeps=0)
