"""Hidden groups: the critic's, no longer the policy's."""

import jax
import numpy as np
import pytest

from jaxrl.rollout.hide import hide
from jaxrl_envs.tasks import cartpole
from tests.probes import PROBES, probe_env


def test_a_hidden_group_is_privileged_and_nothing_else_changes():
    env = cartpole.cartpole(cartpole.Config(backend="native"))
    hidden = hide(env, ("state/velocity",))
    assert list(hidden.spec.observation) == ["state/position", "privileged/velocity"]
    assert hidden.spec.observation["privileged/velocity"] == env.spec.observation["state/velocity"]

    def steps(env):
        def one(key):
            state, first = env.reset(key, env.nominal)
            later, now = env.step(state, jax.numpy.ones(1), env.nominal, key)
            return first, now, env.restart(later, env.nominal, key)[1]

        return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 2))

    (first, now, again), (own_first, own_now, own_again) = steps(env), steps(hidden)
    for seen, own in ((first, own_first), (now.observation, own_now.observation), (again, own_again)):
        np.testing.assert_array_equal(own["privileged/velocity"], seen["state/velocity"])
        np.testing.assert_array_equal(own["state/position"], seen["state/position"])
        assert set(own) == set(hidden.spec.observation)
    np.testing.assert_array_equal(own_now.reward, now.reward)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("state/whihc", "probe has no state group state/whihc to hide; did you mean state/which?"),
        ("privileged/which", "probe has no state group privileged/which to hide"),
        ("state/which", "probe cannot hide state/which: it has a group privileged/which already"),
    ],
)
def test_what_cannot_be_hidden_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        hide(probe_env(PROBES["value"].numbers), (name,))
