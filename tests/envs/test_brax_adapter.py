"""brax's environments as ours: true final observations, terminations and truncations, parameters new in each episode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("brax", reason="brax is not installed")

from brax import envs  # noqa: E402

from jaxrl_envs import xla_flags  # noqa: E402
from jaxrl_envs.adapters._brax_like import brax_like, randomisation  # noqa: E402
from jaxrl_envs.adapters.brax import Config, brax  # noqa: E402
from tests.envs.endings import endings  # noqa: E402

LENGTH, WORLDS = 12, 4
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def seen():
    """60 steps under a constant force; the pole falls after some ten."""
    env = brax(Config(task="inverted_pendulum", backend="spring", episode_length=LENGTH))
    push = jnp.array([[0.0], [0.05], [0.3], [1.0]])
    return env, endings(env, push, steps=60)


def test_falls_terminate_and_show_the_fallen_pole(seen):
    env, (before, result, ended, worlds) = seen
    angle = np.asarray(result.observation["state/observation"])[..., 1]
    np.testing.assert_array_equal(result.discount == 0, np.abs(angle) > 0.2)
    fell = np.asarray(result.discount == 0)
    assert fell[:, 3].sum() >= 3 and not fell[:, 0].any()
    started = np.abs(np.asarray(worlds.observation["state/observation"]))[fell]
    assert (started < 0.02).all() and not np.isin(started, np.abs(np.asarray(result.observation["state/observation"]))[fell]).any()
    assert env.spec.dt == 0.02 and env.nominal == {}


def test_truncations_are_cut_at_the_length(seen):
    _, (before, result, ended, worlds) = seen
    np.testing.assert_array_equal(result.truncation[:, 0], np.arange(60) % LENGTH == LENGTH - 1)
    np.testing.assert_array_equal(ended, (result.discount == 0) | (result.truncation == 1))
    assert (worlds.episodes.diverged == 0).all()


def test_a_step_is_brax_own(seen):
    env, _ = seen
    theirs = envs.get_environment("inverted_pendulum", backend="spring")
    state, observation = jax.jit(env.reset)(KEY, {})
    with jax.numpy_rank_promotion("allow"):
        expected = jax.jit(theirs.reset)(jax.random.key_data(KEY))
        after = jax.jit(theirs.step)(expected, jnp.array([0.5]))
    np.testing.assert_array_equal(observation["state/observation"], expected.obs)
    _, result = jax.jit(env.step)(state, jnp.array([0.5]), {}, KEY)
    np.testing.assert_allclose(result.observation["state/observation"], after.obs, atol=1e-6)
    assert result.reward == after.reward


def test_names_of_observations():
    theirs = envs.get_environment("fast", obs_mode="dict_pixels_state", asymmetric_obs=True)
    env = brax_like(theirs, "fast", 10, 0.0)
    shapes = {name: part.shape for name, part in env.spec.observation.items()}
    assert shapes == {"state/state": (2,), "privileged/state": (4,), "image/view_0": (4, 4, 3), "image/view_1": (4, 4, 3)}
    _, observation = env.reset(KEY, {})
    assert {name: x.shape for name, x in observation.items()} == shapes


def heavier(sys, keys):
    """A randomisation in brax's form: masses by up to half as much again."""

    @jax.vmap
    def draw(key):
        return sys.link.inertia.mass * (1 + 0.5 * jax.random.uniform(key))

    axes = jax.tree.map(lambda x: None, sys).tree_replace({"link.inertia.mass": 0})
    return sys.tree_replace({"link.inertia.mass": draw(keys)}), axes


def test_a_randomisation_of_brax_form_is_drawn_anew_and_acts():
    path = f"{__name__}.heavier"
    env = brax(Config(task="inverted_pendulum", backend="spring", episode_length=LENGTH, randomization=path))
    assert list(env.nominal) == ["link/inertia/mass"] and env.nominal["link/inertia/mass"].shape == (2,)
    first, second = (env.sample(jax.random.key(i)) for i in (1, 2))
    factor = first["link/inertia/mass"] / env.nominal["link/inertia/mass"]
    assert (1 <= factor).all() and (factor <= 1.5).all() and (first["link/inertia/mass"] != second["link/inertia/mass"]).all()
    rows = jax.tree.map(lambda *x: jnp.stack(x), env.nominal, first, env.nominal)
    state, _ = jax.jit(jax.vmap(env.reset, (None, 0)))(KEY, rows)
    later, result = jax.jit(jax.vmap(env.step, (0, None, 0, None)))(state, jnp.array([1.0]), rows, KEY)
    speed = result.observation["state/observation"][:, 2]
    assert speed[0] == speed[2] and speed[1] < 0.97 * speed[0], "a heavier cart is slower"


def test_mistakes_are_named(monkeypatch):
    with pytest.raises(ValueError, match="no environment 'antt'; did you mean ant?"):
        brax(Config(task="antt"))
    with pytest.raises(ValueError, match="name either task"):
        Config()
    with pytest.raises(ValueError, match="backend is 'bullet', but brax has generalized"):
        Config(task="ant", backend="bullet")
    with pytest.raises(ValueError, match="env.make: no function 'nowhere.make'"):
        brax(Config(make="nowhere.make"))
    with pytest.raises(ValueError, match="env.randomization: no function 'json.nothing'"):
        brax(Config(task="inverted_pendulum", randomization="json.nothing"))
    theirs = envs.get_environment("inverted_pendulum", backend="spring")
    with pytest.raises(ValueError, match="changes nothing"):
        randomisation(theirs, "sys", lambda sys, keys: (sys, jax.tree.map(lambda x: None, sys)), "pendulum")
    with pytest.raises(ValueError, match=r"must take \(model, keys\) and return \(models, in_axes\)"):
        randomisation(theirs, "sys", lambda sys: sys, "pendulum")
    monkeypatch.setenv("XLA_FLAGS", "")
    if jax.default_backend() == "cpu":
        with pytest.raises(ValueError, match="inverted_pendulum with the backend mjx on a CPU.*XLA_FLAGS="):
            brax(Config(task="inverted_pendulum", backend="mjx"))
    assert xla_flags.needed_by({"name": "jaxrl_envs.adapters.brax", "task": "ant", "backend": "mjx"})
    assert not xla_flags.needed_by({"name": "jaxrl_envs.adapters.brax", "task": "ant"})


class Unsteady:
    """A step that adds to the state's info."""

    action_size = 1

    def reset(self, rng):
        return envs.State(None, jnp.zeros(2), jnp.zeros(()), jnp.zeros(()), {"m": jnp.zeros(())}, {})

    def step(self, state, action):
        return state.replace(info={"late": jnp.zeros(3)})


def test_a_state_that_changes_its_structure_is_refused():
    with pytest.raises(ValueError, match=r"cannot be scanned:\n  info/late: absent -> float32\[3\]"):
        brax_like(Unsteady(), "unsteady", 10, 0.0)
