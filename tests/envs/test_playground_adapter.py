"""mujoco_playground's environments as ours."""

import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("mujoco_playground", reason="mujoco_playground is not installed: pip install playground")

from jaxrl_envs.adapters import playground as module  # noqa: E402
from jaxrl_envs.adapters._brax_like import CARRIED_ON  # noqa: E402
from jaxrl_envs.adapters.playground import Config, playground  # noqa: E402
from tests.envs.endings import endings  # noqa: E402

LENGTH = 4


def stronger(model, keys):
    """A randomisation in brax's form: the motor's gain."""
    gains = jax.vmap(lambda key: model.actuator_gear * (1 + jax.random.uniform(key)))(keys)
    axes = jax.tree.map(lambda x: None, model).tree_replace({"actuator_gear": 0})
    return model.tree_replace({"actuator_gear": gains}), axes


@pytest.fixture(scope="module")
def cartpole():
    return playground(Config(task="CartpoleBalance", episode_length=LENGTH, randomization=f"{__name__}.stronger"))


def test_cuts_show_the_true_final_observation_and_starts_differ(cartpole):
    before, result, ended, worlds = endings(cartpole, jnp.ones((3, 1)), steps=12)
    np.testing.assert_array_equal(result.truncation, np.broadcast_to((np.arange(12) % LENGTH == LENGTH - 1)[:, None], (12, 3)))
    assert (result.discount == 1).all() and (worlds.episodes.diverged == 0).all()
    seen, later = (np.asarray(x["state/observation"]) for x in (before, result.observation))
    np.testing.assert_array_equal(seen[1:LENGTH], later[: LENGTH - 1])
    assert (later[LENGTH - 1, :, 3] > 0.3).all(), "pushed for an episode"
    assert (np.abs(seen[LENGTH, :, 3]) < 0.1).all(), "at rest again"
    gears = np.asarray(worlds.parameters["actuator_gear"])[::LENGTH]
    assert len(np.unique(gears[:, :, 0, 0])) == 9, "new in each episode of each world"
    assert (np.argsort(gears[0, :, 0, 0]) == np.argsort(later[LENGTH - 2, :, 3])).all(), "a stronger motor is faster"


def test_each_start_gets_random_numbers_of_its_own(cartpole):
    state, _ = jax.jit(cartpole.reset)(jax.random.key(0), cartpole.nominal)
    begun = [jax.jit(cartpole.restart)(state, cartpole.nominal, jax.random.key(i))[0] for i in range(2)]
    assert (begun[0].info["rng"] != begun[1].info["rng"]).any() and (begun[0].data.qpos == begun[1].data.qpos).all()


def test_what_is_checked_of_a_state_is_what_steps_continue_from(cartpole):
    state, _ = jax.jit(cartpole.reset)(jax.random.key(0), cartpole.nominal)
    lost = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan) if jnp.issubdtype(x.dtype, jnp.floating) else x, state.data)
    lost = state.replace(data=lost.replace(**{name: getattr(state.data, name) for name in CARRIED_ON}))
    step = jax.jit(cartpole.step)
    arguments = (jnp.ones(1), cartpole.nominal, jax.random.key(1))
    (wanted, result), (found, same) = step(state, *arguments), step(lost, *arguments)
    np.testing.assert_array_equal(result.observation["state/observation"], same.observation["state/observation"])
    for wrong, right in zip(*(jax.tree.leaves(cartpole.vital(x)) for x in (found, wanted)), strict=True):
        np.testing.assert_array_equal(wrong, right)
    hurt = state.replace(data=state.data.replace(qvel=jnp.full_like(state.data.qvel, jnp.nan)))
    assert any(np.isnan(x).any() for x in jax.tree.leaves(cartpole.vital(hurt)))


def test_configs_reach_playground(cartpole):
    assert cartpole.spec.dt == 0.01 and "reward/upright" in cartpole.spec.metrics
    other = playground(Config(task="CartpoleBalance", overrides={"ctrl_dt": 0.02}))
    assert other.spec.dt == 0.02 and other.spec.episode_length == 1000 and other.nominal == {}


def test_mistakes_are_named(monkeypatch):
    with pytest.raises(ValueError, match="no environment 'CartpoleBalanc'; did you mean CartpoleBalance?"):
        playground(Config(task="CartpoleBalanc"))
    with pytest.raises(ValueError, match="cannot make CartpoleBalance with these overrides and playground .*ctrl_d"):
        playground(Config(task="CartpoleBalance", overrides={"ctrl_d": 0.02}))
    with pytest.raises(ValueError, match="overrides.impl: has a field of its own, backend"):
        Config(task="CartpoleBalance", overrides={"impl": "warp"})
    with pytest.raises(ValueError, match="no randomisation of its own for CartpoleBalance"):
        playground(Config(task="CartpoleBalance", randomization="own"))

    def fail(*arguments, **options):
        raise subprocess.CalledProcessError(128, ["git", "clone"])

    monkeypatch.setattr(module.registry, "load", fail)
    with pytest.raises(OSError, match="Go1JoystickFlatTerrain needs the meshes of mujoco_menagerie.*Go online once"):
        playground(Config(task="Go1JoystickFlatTerrain"))
    monkeypatch.setenv("XLA_FLAGS", "")
    if jax.default_backend() == "cpu":
        with pytest.raises(ValueError, match="playground's CartpoleBalance on a CPU.*XLA_FLAGS="):
            playground(Config(task="CartpoleBalance"))
