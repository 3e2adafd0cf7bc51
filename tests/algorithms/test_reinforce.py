"""REINFORCE's gradient against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import optimizers
from jaxrl.algorithms import reinforce
from jaxrl.distributions.categorical import categorical
from jaxrl.networks.actor_critic import ActorCritic
from jaxrl.ops.specs import choice
from jaxrl.types import ArraySpec, EnvSpec, Network, Transition

SPEC = EnvSpec("task", {"state/x": ArraySpec((2,))}, choice(3), 100, 0.0)
T, B, GAMMA, RATE = 5, 2, 0.8, 0.1


def linear() -> ActorCritic:
    def init(size):
        return lambda key: jax.random.normal(key, (2, size))

    actor = Network(init(3), lambda params, x, key=None, train=False: {"logits": x["state/x"] @ params})
    critic = Network(init(1), lambda params, x, key=None, train=False: (x["state/x"] @ params)[..., 0])
    return ActorCritic(actor, critic, categorical())


def batch() -> Transition:
    """The first world terminates after its second step and is cut after its fourth; the second goes on beyond the batch."""
    random = np.random.default_rng(0)
    discount, truncation = np.ones((T, B), np.float32), np.zeros((T, B), np.float32)
    discount[1, 0], truncation[3, 0] = 0, 1
    x, later = random.normal(size=(2, T, B, 2)).astype(np.float32)
    goes_on = (discount * (1 - truncation))[:-1, :, None] > 0
    later[:-1] = np.where(goes_on, x[1:], later[:-1])
    chosen = random.integers(0, 3, (T, B)).astype(np.int32)
    reward = random.normal(size=(T, B)).astype(np.float32)
    made = Transition({"state/x": x}, chosen, reward, discount, truncation, {"state/x": later}, {"x": chosen})
    return jax.tree.map(jnp.asarray, made)


def returns(now: Transition, after: np.ndarray) -> np.ndarray:
    """[T, B] sums of rewards to the episode's end, with the value `after` it in place of what is not seen."""
    found = np.zeros((T, B))
    for world in range(B):
        rest = after[-1, world]
        for t in reversed(range(T)):
            if now.truncation[t, world] > 0:
                rest = after[t, world]
            found[t, world] = rest = now.reward[t, world] + GAMMA * now.discount[t, world] * rest
    return found


def test_the_step_against_numpy():
    entropy_weight = 0.3
    config = reinforce.Config(
        optimizers.Config("sgd", RATE),
        gamma=GAMMA,
        baseline_weight=0.5,
        entropy_weight=entropy_weight,
        normalise_observations=False,
        normalise_advantages=False,
    )
    algorithm = reinforce.reinforce(config, SPEC, linear())
    state, whole = algorithm.init(jax.random.key(0)), batch()
    after, metrics, _ = jax.jit(algorithm.update)(state, whole, jax.random.key(1))

    now = jax.tree.map(np.asarray, whole)
    actor, critic = np.asarray(state.params["actor"]), np.asarray(state.params["critic"])
    x = now.observation["state/x"]
    value, later = (x @ critic)[..., 0], (now.next_observation["state/x"] @ critic)[..., 0]
    advantage = returns(now, later) - value
    e = np.exp(x @ actor)
    p = e / e.sum(-1, keepdims=True)
    entropy = -(p * np.log(p)).sum(-1, keepdims=True)
    # d log pi / d logits, and d entropy / d logits
    of_policy = (np.eye(3)[now.action] - p) * advantage[..., None]
    of_entropy = -p * (np.log(p) + entropy)
    climb = np.einsum("tbi,tbj->ij", x, of_policy + entropy_weight * of_entropy) / (T * B)
    np.testing.assert_allclose(after.params["actor"], actor + RATE * climb, rtol=1e-4, atol=1e-6)
    down = 0.5 * np.einsum("tbi,tb->i", x, -advantage)[:, None] / (T * B)
    np.testing.assert_allclose(after.params["critic"], critic - RATE * down, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["entropy"], entropy.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/value"], 0.5 * np.square(advantage).mean(), rtol=1e-5)


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="gamma is -0.5, but must lie between 0 and 1"):
        reinforce.Config(gamma=-0.5)
    with pytest.raises(ValueError, match="baseline_weight is -1.0, but must not be negative"):
        reinforce.Config(baseline_weight=-1.0)
