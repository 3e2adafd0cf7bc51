"""One action for several steps of an environment that counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.types import ArraySpec, Env, EnvSpec, TimeStep
from jaxrl_envs.tasks._action_repeat import check, repeat_action

KEY = jax.random.key(0)


def counter() -> Env:
    """The state is the sum of all actions, and the reward is the state."""

    def step(state, action, parameters, key):
        later = state + action
        metrics = {"total": later[0], "draw": jax.random.uniform(key)}
        return later, TimeStep({"state/total": later}, later[0], jnp.ones(()), jnp.zeros(()), metrics)

    def start(*_):
        return jnp.zeros(1), {"state/total": jnp.zeros(1)}

    spec = EnvSpec("counter", {"state/total": ArraySpec((1,))}, ArraySpec((1,)), 12, 0.5, ("total", "draw"))
    return Env(spec, start, step, start, (), lambda key: ())


def test_rewards_are_summed_metrics_averaged_and_the_rest_is_of_the_last_step():
    env = repeat_action(counter(), 4)
    assert (env.spec.episode_length, env.spec.dt) == (3, 2.0)
    later, result = jax.jit(env.step)(jnp.array([1.0]), jnp.array([2.0]), (), KEY)
    np.testing.assert_array_equal(later, [9])
    np.testing.assert_array_equal(result.observation["state/total"], [9])
    assert (result.reward, result.metrics["total"]) == (3 + 5 + 7 + 9, 6)
    assert (result.discount, result.truncation) == (1, 0)


def test_each_step_has_a_key_of_its_own():
    draws = [repeat_action(counter(), times).step(jnp.zeros(1), jnp.zeros(1), (), KEY)[1].metrics["draw"] for times in (1, 2, 3)]
    assert len({float(draw) for draw in draws}) == 3


def test_check_refuses_what_does_not_divide_an_episode():
    check(4, 12)
    for times in (0, 5, 24):
        with pytest.raises(ValueError, match=f"action_repeat is {times}, but must divide the 12 control steps of an episode"):
            check(times, 12)
