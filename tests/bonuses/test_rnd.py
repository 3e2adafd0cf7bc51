"""A bonus for what is new."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.bonuses.rnd import Config, paid, rnd
from jaxrl.types import Algorithm, ArraySpec, EnvSpec, Policy, PolicySpec, Replayed, TrainState, Transition

SPEC = EnvSpec("task", {"state/a": ArraySpec((2,)), "privileged/b": ArraySpec((1,))}, ArraySpec((1,)), 10, 0.1)
SMALL = Config(weight=2.0, hidden=(32,), size=8, learning_rate=1e-2)


def learner():
    """An algorithm that remembers the rewards it was given."""
    state = TrainState(jnp.int32(0), {}, {}, (), (), jnp.zeros(()))

    def update(state, batch, key):
        return state._replace(step=state.step + 1, extra=state.extra + 1), {"reward": batch.reward}, {"priority": batch.reward}

    policy = Policy(PolicySpec({}, ArraySpec((1,))), lambda size: (), lambda *_: None)
    return Algorithm(lambda key, pretrained=None: state, update, policy, policy, lambda s: s.extra, lambda s: s.extra, {})


def unroll(position):
    """Transitions [3, 4] that end about `position`."""
    x = position + 0.1 * jax.random.normal(jax.random.key(0), (3, 4, 2))
    one = jnp.ones((3, 4))
    seen = {"state/a": x, "privileged/b": one[..., None]}
    return Transition(seen, one[..., None], one, one, 0 * one, seen, {})


def test_what_is_seen_often_is_worth_less_than_what_is_new():
    algorithm = rnd(SMALL, SPEC, learner())
    update = jax.jit(algorithm.update)
    state = algorithm.init(jax.random.key(0))
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), unroll(0.0), unroll(4.0))  # so that the scale of observations is known
    state, _, _ = update(state, both, jax.random.key(0))
    first = None
    for _ in range(300):
        state, metrics, _ = update(state, unroll(0.0), jax.random.key(0))
        first = metrics if first is None else first
    known, new = (update(state, unroll(x), jax.random.key(0))[1]["bonus"] for x in (0.0, 4.0))
    assert metrics["loss/novelty"] < 0.1 * first["loss/novelty"] and new > 5 * known


def test_the_algorithm_gets_rewards_with_the_bonus_and_keeps_its_own_state():
    algorithm = rnd(SMALL, SPEC, learner())
    state = algorithm.init(jax.random.key(0))
    after, metrics, feedback = algorithm.update(state, unroll(0.0), jax.random.key(0))
    np.testing.assert_allclose(metrics["reward"].mean(), 1.0 + metrics["bonus"], rtol=1e-5)
    np.testing.assert_array_equal(feedback["priority"], metrics["reward"])
    assert algorithm.behaviour(after) == 1.0 and after.extra.own == 1.0 and after.step == 1
    before, target = state.extra.novelty, after.extra.novelty.target
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before.target), jax.tree.leaves(target), strict=True))


def test_the_bonus_goes_to_the_last_of_the_steps():
    reward, steps = jnp.zeros((1, 3, 2)), jnp.array([[1, 2, 2]])
    found = paid(reward, jnp.array([[5.0, 6.0, 7.0]]), steps)
    np.testing.assert_array_equal(found, [[[5, 0], [0, 6], [0, 7]]])


def test_replayed_steps_are_paid_too():
    algorithm = rnd(SMALL, SPEC, learner())
    seen = {"state/a": jax.random.normal(jax.random.key(1), (1, 3, 2)), "privileged/b": jnp.ones((1, 3, 1))}
    one = jnp.ones((1, 3))
    batch = Replayed(seen, one[..., None], jnp.zeros((1, 3, 2)), jnp.array([[1, 2, 2]]), one, seen, one, {})
    _, metrics, _ = algorithm.update(algorithm.init(jax.random.key(0)), batch, jax.random.key(0))
    assert (np.asarray(metrics["reward"]) > 0).tolist() == [[[True, False], [False, True], [False, True]]]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="weight is -1"):
        Config(weight=-1.0)
    with pytest.raises(ValueError, match="rnd"):
        rnd(SMALL, SPEC._replace(observation={"image/a": ArraySpec((8, 8, 3), "uint8")}), learner())
