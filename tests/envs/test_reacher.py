"""The reacher against a trajectory of dm_control 1.0.50 with mujoco 3.17.0, written down once, and against MuJoCo's kinematics."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl.cli.main import main
from jaxrl_envs.tasks import reacher

CONFIG = Path(__file__).parents[2] / "experiments" / "ppo_reacher.py"

ACTIONS = (0.5, -1.0, 0.25, 0.8, -0.3, 0.1, 0.9, -0.7, 0.6, -0.2)


@pytest.fixture(scope="module")
def env():
    return reacher.reacher(reacher.Config(backend="native"))


@pytest.fixture(scope="module")
def step(env):
    return jax.jit(env.step)


def begin(env, qpos, qvel=(0.0, 0.0), target=(0.1, 0.0)):
    state, _ = env.reset(jax.random.key(0), env.nominal)
    return reacher.State(state.physics._replace(qpos=jnp.array(qpos), qvel=jnp.array(qvel)), jnp.array(target))


def test_motion_and_observation_are_those_of_dm_control(env, step):
    state = begin(env, (2.0, 2.7), (1.0, 2.0), (0.03, 0.05))
    for action in ACTIONS:
        state, now = step(state, jnp.array([action, -action]), env.nominal, jax.random.key(0))
    np.testing.assert_allclose(now.observation["state/position"], [2.111427227, 2.641716719], rtol=1e-6)
    np.testing.assert_allclose(now.observation["state/velocity"], [0.423054105, -0.139435323], rtol=1e-5)
    np.testing.assert_allclose(now.observation["state/to_target"], [0.086872, 0.067014259], rtol=1e-5)
    assert now.reward == 0.0 and now.discount == 1.0


def test_finger_is_where_mujoco_has_it():
    model = reacher.model()
    data = mujoco.MjData(model)
    for qpos in np.random.default_rng(0).uniform(-3, 3, (5, 2)):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(reacher.finger(jnp.asarray(qpos)), data.geom("finger").xpos[:2], atol=1e-6)
    assert model.geom("finger").size[0] == reacher.FINGER_RADIUS


@pytest.mark.parametrize(("distance", "reward"), [(0.0, 1.0), (0.0595, 1.0), (0.0605, 0.0)])
def test_reward_is_one_where_finger_and_target_overlap(env, step, distance, reward):
    at_rest = begin(env, (0.0, 0.0), target=(0.24 - distance, 0.0))
    _, now = step(at_rest, jnp.zeros(2), env.nominal, jax.random.key(0))
    assert now.reward == reward
    np.testing.assert_allclose(now.metrics["distance"], distance, atol=1e-6)


def test_starts_vary_and_targets_are_within_reach(env):
    assert env.spec.episode_length == 1000 and env.spec.dt == 0.02
    keys = jax.random.split(jax.random.key(1), 400)
    state, observation = jax.vmap(env.reset, (0, None))(keys, env.nominal)
    radius = np.linalg.norm(state.target, axis=1)
    assert radius.min() >= 0.05 and radius.max() <= 0.2 and radius.std() > 0.03
    shoulder, wrist = np.asarray(state.physics.qpos).T
    assert np.abs(shoulder).max() <= np.pi and np.abs(shoulder).max() > 3 and np.abs(wrist).max() <= np.deg2rad(160)
    fingers = jax.vmap(reacher.finger)(state.physics.qpos)
    np.testing.assert_allclose(observation["state/to_target"], state.target - fingers, atol=1e-6)


def test_the_target_stays_and_a_restart_keeps_it(env, step):
    state = begin(env, (0.3, 0.4), target=(0.05, 0.1))
    later, now = step(state, jnp.ones(2), env.nominal, jax.random.key(0))
    np.testing.assert_array_equal(later.target, state.target)
    again, observation = env.restart(later, env.nominal, jax.random.key(3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), (again, observation), (later, now.observation))


def test_repeated_actions_sum_their_rewards():
    repeated = reacher.reacher(reacher.Config(backend="native", action_repeat=5))
    assert repeated.spec.episode_length == 200 and repeated.spec.dt == pytest.approx(0.1)
    _, now = jax.jit(repeated.step)(begin(repeated, (0.0, 0.0), target=(0.24, 0.0)), jnp.zeros(2), repeated.nominal, jax.random.key(0))
    assert now.reward == 5.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"target_radius": 0.0}, "target_radius is 0.0 m"), ({"action_repeat": 7}, "action_repeat is 7, but must divide")],
)
def test_config_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        reacher.Config(**fields)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ppo_learns(tmp_path):
    assert main(["train", "--config", str(CONFIG), "--workdir", str(tmp_path), "--config.evaluation.video_seconds=0.1"]) == 0
    results = json.loads((tmp_path / "evaluation.json").read_text())
    assert results["nominal"]["return"]["value"] > 900
    assert results["standing_baseline"]["return"]["high"] < 300
