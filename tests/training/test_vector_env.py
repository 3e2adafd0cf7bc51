"""Our environments as gymnasium's vector environments: the same worlds as `auto_reset`'s."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

gym = pytest.importorskip("gymnasium", reason="gymnasium is not installed")

from jaxrl.curricula.static import fixed  # noqa: E402
from jaxrl.rollout.auto_reset import Draws, auto_reset  # noqa: E402
from jaxrl.training.vector_env import vector_env  # noqa: E402
from jaxrl.types import ArraySpec, Env, EnvSpec, TimeStep  # noqa: E402
from tests.probes import PROBES, probe_env  # noqa: E402

LENGTH, WORLDS, POOL = 7, 5, 4


def env() -> Env:
    """Counts its steps and shows its physics; an action above 0.9 terminates."""
    observation = {"state/count": ArraySpec((1,)), "state/action": ArraySpec((2,)), "privileged/physics": ArraySpec((1,))}
    spec = EnvSpec("counting", observation, ArraySpec((2,), low=-1.0, high=1.0), LENGTH, 0.1, ("count",))

    def observe(count, action, parameters):
        return {"state/count": count[None], "state/action": action, "privileged/physics": parameters[None]}

    def reset(key, parameters):
        return jnp.zeros(()), observe(jnp.zeros(()), jnp.zeros(2), parameters)

    def step(count, action, parameters, key):
        count = count + 1
        discount = jnp.where(action[0] > 0.9, 0.0, 1.0)
        return count, TimeStep(observe(count, action, parameters), count * parameters, discount, jnp.zeros(()), {"count": count})

    def restart(count, parameters, key):
        return count, observe(count, jnp.zeros(2), parameters)

    return Env(spec, reset, step, restart, nominal=jnp.ones(()), sample=jax.random.uniform)


def test_fifty_steps_are_those_of_auto_reset():
    envs = vector_env(env(), WORLDS, "dict", pool_size=POOL)
    observation, _ = envs.reset(seed=3)
    assert envs.observation_space.contains(observation) and envs.metadata["autoreset_mode"] == gym.vector.AutoresetMode.SAME_STEP
    worlds_of = auto_reset(env(), fixed(env().sample), POOL, stagger=False)
    key = envs._key
    make, start = jax.random.split(key)
    pool, draws = worlds_of.pool(make, Draws((), ())), Draws((), ())
    worlds = worlds_of.init(start, jnp.arange(WORLDS, dtype=jnp.int32), pool, draws)
    step = jax.jit(worlds_of.step)
    jax.tree.map(np.testing.assert_array_equal, observation, worlds.observation)
    envs.action_space.seed(0)
    ends = 0
    for t in range(1, 51):
        action = envs.action_space.sample()
        worlds, _, result, ended = step(worlds, action, pool, draws, jax.random.fold_in(key, t))
        observation, reward, terminated, truncated, infos = envs.step(action)
        assert envs.observation_space.contains(observation) and all(isinstance(x, np.ndarray) for x in (reward, terminated, truncated))
        jax.tree.map(np.testing.assert_array_equal, observation, worlds.observation)
        np.testing.assert_allclose(reward, result.reward)
        np.testing.assert_array_equal(terminated, result.discount == 0)
        np.testing.assert_array_equal(truncated, result.truncation)
        np.testing.assert_array_equal(infos["count"], result.metrics["count"])
        assert ("final_obs" in infos) == bool(ended.any())
        for i in np.flatnonzero(ended):
            ends += 1
            assert infos["_final_obs"][i] and infos["final_info"]["count"][i] == result.metrics["count"][i]
            for name, value in infos["final_obs"][i].items():
                np.testing.assert_array_equal(value, result.observation[name][i])
            assert observation["state/count"][i] == 0 < infos["final_obs"][i]["state/count"]
    assert ends > 30
    assert len(np.unique(np.asarray(worlds.parameters))) == WORLDS, "physics is drawn for each world"


def test_arrays_join_the_public_groups_and_seeds_tell():
    envs = vector_env(env(), WORLDS, pool_size=POOL)
    assert envs.single_observation_space.shape == (3,) and envs.single_action_space.low.tolist() == [-1, -1]
    first, _ = envs.reset(seed=3)
    assert first.shape == (WORLDS, 3) and first.dtype == np.float32
    action = np.full((WORLDS, 2), 0.5, np.float32)
    steps = [envs.step(action)[1] for _ in range(3)]
    envs.reset(seed=3)
    np.testing.assert_array_equal([envs.step(action)[1] for _ in range(3)], steps)
    envs.reset()
    assert (np.array([envs.step(action)[1] for _ in range(3)]) != steps).all()
    assert envs.step(action)[0][0].tolist() == [0.5, 0.5, 4], "in the order of the groups' names"


def test_gymnasiums_own_wrappers_take_it():
    for mode in ("same_step", "next_step"):
        envs = gym.wrappers.vector.RecordEpisodeStatistics(vector_env(env(), WORLDS, autoreset=mode, pool_size=POOL))
        if mode == "next_step":
            envs = gym.wrappers.vector.NormalizeObservation(envs)
        envs.reset(seed=0)
        for _ in range(2):
            for _ in range(LENGTH):
                *_, truncated, infos = envs.step(np.zeros((WORLDS, 2), np.float32))
            assert truncated.all() and (infos["episode"]["l"] == LENGTH).all()
            if mode == "next_step":
                *_, truncated, infos = envs.step(np.zeros((WORLDS, 2), np.float32))
                assert not truncated.any()
        envs.close()


def test_next_step_mode_shows_the_same_episodes_with_a_step_between_them():
    action = np.zeros((WORLDS, 2), np.float32)
    same, after = (vector_env(env(), WORLDS, autoreset=mode, pool_size=POOL) for mode in ("same_step", "next_step"))
    starts = [e.reset(seed=3)[0] for e in (same, after)]
    np.testing.assert_array_equal(*starts)
    ended = np.zeros(WORLDS, bool)
    for t in range(1, 20):
        action[:, 0] = np.where(np.arange(WORLDS) == t % WORLDS, 1.0, 0.0)
        observation, reward, terminated, truncated, infos = after.step(action)
        assert "final_obs" not in infos and (infos["_count"] == ~ended).all()
        count = observation[:, 2]
        assert (count[ended] == 0).all() and (reward[ended] == 0).all() and not (terminated | truncated)[ended].any()
        assert (count[~ended] > 0).all() and (reward[~ended] > 0).all()
        assert (count[truncated] == LENGTH).all() and (terminated == (action[:, 0] > 0.9) & ~ended).all()
        ended = terminated | truncated


def test_mistakes_are_named(tmp_path):
    envs = vector_env(env(), WORLDS, pool_size=POOL)
    with pytest.raises(RuntimeError, match="call reset before step"):
        envs.step(np.zeros((WORLDS, 2)))
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected actions of the shape \(5, 2\), got \(2,\)"):
        envs.step(np.zeros(2))
    with pytest.raises(ValueError, match="reset takes no options here, got reset_mask"):
        envs.reset(options={"reset_mask": np.ones(WORLDS, bool)})
    picture = env()._replace(spec=env().spec._replace(observation={"image/front": ArraySpec((4, 4, 3), "uint8")}))
    with pytest.raises(ValueError, match='counting has no vectors state/<group>.*choose observation="dict"'):
        vector_env(picture, WORLDS)
    (tmp_path / "no_env.py").write_text("from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict()\n")
    with pytest.raises(ValueError, match="config.env.name: missing"):
        vector_env(tmp_path / "no_env.py", WORLDS)
    (tmp_path / "host.py").write_text(
        "from ml_collections import ConfigDict\n\n\ndef get_config():\n"
        '    return ConfigDict({"env": {"name": "jaxrl_envs.adapters.gymnasium", "id": "Pendulum-v1"}})\n'
    )
    with pytest.raises(ValueError, match="Pendulum-v1 is stepped on the host already"):
        vector_env(tmp_path / "host.py", WORLDS)


def test_what_an_experiment_hides_is_hidden_here_too():
    pytest.importorskip("jaxrl_envs.tasks.cartpole")
    envs = vector_env(Path(__file__).parents[2] / "experiments" / "ppo_cartpole_memory.py", 2, pool_size=2)
    assert envs.single_observation_space.shape == (3,)  # of 5 numbers two are velocities


def test_discrete_actions_are_gymnasiums():
    worlds = vector_env(probe_env(PROBES["policy"].numbers, 5), WORLDS, pool_size=POOL)
    assert worlds.single_action_space == gym.spaces.Discrete(5)
    worlds.reset(seed=0)
    rewards = worlds.step(np.arange(5))[1]  # guesses from -1 to 1, of which 0.5 is wanted
    np.testing.assert_allclose(rewards, -np.square(np.linspace(-1, 1, 5) - 0.5), atol=1e-6)
