"""The cartpole against trajectories of dm_control 1.0.50 with mujoco 3.17.0, written down once."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.cli.main import main
from jaxrl_envs.tasks import cartpole

CONFIG = Path(__file__).parents[2] / "experiments" / "ppo_cartpole_swingup.py"

ACTIONS = (0.5, -1.0, 0.25, 0.8, -0.3, 0.1, 0.9, -0.7, 0.6, -0.2)
# Start, and after the ten ACTIONS: qpos, qvel and the last reward of dm_control's cartpole-swingup. The second hits the end of the rail.
TRAJECTORIES = {
    "hanging": ([0.3, 2.5, 0.4, -1.0], [0.345809062, 2.450647903, 0.523821517, 0.030348461], 0.109971968),
    "at the end of the rail": ([1.75, 0.3, 2.0, 1.0], [1.857996374, 0.549172998, 0.051318482, 4.155890311], 0.314499893),
}


def build(**fields):
    env = cartpole.cartpole(cartpole.Config(backend="native", **fields))
    return env, jax.jit(env.step)


def begin(env, qpos, qvel=(0.0, 0.0)):
    state, _ = env.reset(jax.random.key(0), env.nominal)
    return state._replace(physics=state.physics._replace(qpos=jnp.array(qpos), qvel=jnp.array(qvel)))


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_motion_and_reward_are_those_of_dm_control(name):
    start, end, reward = TRAJECTORIES[name]
    env, step = build()
    state = begin(env, start[:2], start[2:])
    for action in ACTIONS:
        state, now = step(state, jnp.array([action]), env.nominal, jax.random.key(0))
    np.testing.assert_allclose(np.concatenate([state.physics.qpos, state.physics.qvel]), end, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(now.reward, reward, rtol=1e-5)
    x, angle = end[:2]
    np.testing.assert_allclose(now.observation["state/position"], [x, np.cos(angle), np.sin(angle)], rtol=1e-5)
    np.testing.assert_allclose(now.observation["state/velocity"], end[2:], rtol=1e-5, atol=1e-6)


def test_standing_still_in_the_middle_earns_one_and_every_fault_costs():
    def reward(qpos=(0.0, 0.0), qvel=(0.0, 0.0), control=0.0):
        factors = cartpole.reward_factors(jnp.array(qpos), jnp.array(qvel), jnp.array([control]))
        return float(np.prod([float(f) for f in factors.values()]))

    assert reward() == 1.0
    np.testing.assert_allclose(reward(control=1.0), 0.8, rtol=1e-6)
    np.testing.assert_allclose(reward(qpos=(2.0, 0.0)), 0.55, rtol=1e-6)
    np.testing.assert_allclose(reward(qvel=(0.0, 5.0)), 0.55, rtol=1e-6)
    np.testing.assert_allclose(reward(qpos=(0.0, np.pi)), 0.0, atol=1e-6)


@pytest.mark.parametrize(("task", "upright"), [("balance", True), ("swingup", False)])
def test_starts(task, upright):
    env, _ = build(task=task)
    assert env.spec.name == f"cartpole_{task}" and env.spec.episode_length == 1000 and env.spec.dt == 0.01
    keys = jax.random.split(jax.random.key(1), 200)
    _, observation = jax.vmap(env.reset, (0, None))(keys, env.nominal)
    position = np.asarray(observation["state/position"])
    angle = np.arctan2(position[:, 2], position[:, 1])
    if upright:
        assert np.abs(position[:, 0]).max() <= 0.1 and np.abs(angle).max() <= 0.034
        np.testing.assert_allclose([position[:, 0].std(), angle.std()], np.array([0.1, 0.034]) / np.sqrt(3), rtol=0.15)
    else:
        assert (position[:, 1] < -0.99).all()
        np.testing.assert_allclose([position[:, 0].std(), np.sin(angle).std()], [0.01, 0.01], rtol=0.2)
    np.testing.assert_allclose(np.asarray(observation["state/velocity"]).std(0), [0.01, 0.01], rtol=0.2)


def test_repeated_actions_sum_their_rewards():
    env, step = build()
    repeated, repeat_step = build(action_repeat=4)
    assert repeated.spec.episode_length == 250 and repeated.spec.dt == 0.04
    once, total = begin(env, (0.1, 0.5)), 0.0
    for _ in range(4):
        once, now = step(once, jnp.array([0.3]), env.nominal, jax.random.key(0))
        total += float(now.reward)
    later, now = repeat_step(begin(repeated, (0.1, 0.5)), jnp.array([0.3]), repeated.nominal, jax.random.key(0))
    np.testing.assert_allclose(now.reward, total, rtol=1e-6)
    np.testing.assert_array_equal(later.physics.qpos, once.physics.qpos)


def test_actions_beyond_the_limits_count_as_the_limits():
    env, step = build()
    state = begin(env, (0.0, 0.1))
    results = [step(state, jnp.array([action]), env.nominal, jax.random.key(0)) for action in (1.0, 30.0)]
    jax.tree.map(np.testing.assert_array_equal, *results)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action_repeat": 3}, "action_repeat is 3, but must divide the 1000 control steps"),
        ({"action_repeat": 0}, "action_repeat is 0"),
    ],
)
def test_config_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        cartpole.Config(**fields)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("backend", ["native", "mjx"])
def test_ppo_learns(backend, tmp_path):
    chosen = [f"--config.env.backend={backend}", "--config.evaluation.num_episodes=20", "--config.evaluation.video_seconds=0.1"]
    assert main(["train", "--config", str(CONFIG), "--workdir", str(tmp_path), *chosen]) == 0
    results = json.loads((tmp_path / "evaluation.json").read_text())
    assert results["nominal"]["return"]["low"] > 800
    assert results["standing_baseline"]["return"]["high"] < 800
