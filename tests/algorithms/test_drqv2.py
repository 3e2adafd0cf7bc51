"""DrQ-v2 on tiny images: what learns from what, and the noise's schedule."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import optimizers
from jaxrl.algorithms import drqv2
from jaxrl.networks._dormancy import dormant_share
from jaxrl.ops.paths import flatten_names
from jaxrl.ops.running_statistics import normalise
from tests.algorithms.off_policy import EYE, GAMMA, pictures, pixel_networks

KEY = jax.random.key(0)
NETWORKS = pixel_networks(deterministic=True)
PLAIN = optimizers.Config("sgd", 0.1)


def made(**changes: object) -> Any:
    fields = {"optimizer": PLAIN, "gamma": GAMMA, "tau": 0.25, "pad": 0, "noise_std": (0.5, 0.1), "noise_updates": 4}
    return drqv2.drqv2(drqv2.Config(**fields | changes), EYE, NETWORKS)


@pytest.fixture(scope="module")
def updated():
    algorithm = made()
    state = algorithm.init(KEY)
    return algorithm, state, jax.jit(algorithm.update)(state, pictures(KEY), KEY)


def test_target_and_losses_of_the_first_update(updated):
    """The equations once more, straight down (2 to 4), without shifts."""
    _, state, (after, metrics, feedback) = updated
    whole = jax.tree.map(lambda x: x[0], pictures(KEY))
    blur, act = jax.random.split(jax.random.split(KEY, 1)[0], 3)[1:]
    see = lambda observation: NETWORKS.encoder.apply(state.params["encoder"], {}, normalise(after.statistics, observation))[0]  # noqa: E731
    now, later = see(whole.observation), see(whole.next_observation)

    def act_at(params, seen, key):
        noise = np.clip(0.5 * np.asarray(jax.random.normal(key, (8, 1))), -0.3, 0.3)
        return np.clip(np.tanh(NETWORKS.actor.apply(params, {}, seen)[0]["mean"]) + noise, -1, 1)

    value = lambda params, seen, action: np.asarray(NETWORKS.critic.apply(params, {}, (seen, action))[0][..., 0])  # noqa: E731
    ahead = value(state.extra.target, later, act_at(state.params["actor"], later, blur)).min(0)
    target = sum(np.asarray(whole.reward[:, k]) * GAMMA**k for k in range(3)) + GAMMA**3 * ahead
    error = value(state.params["critic"], now, whole.action) - target
    np.testing.assert_allclose(metrics["loss/critic"], (0.5 * error**2).mean(), rtol=1e-4)
    np.testing.assert_allclose(feedback["priority"][0], np.abs(error).mean(0), rtol=1e-4)
    # The actor is shown what the encoder saw, by the critics as they have become.
    own = value(after.params["critic"], now, act_at(state.params["actor"], now, act)).min(0)
    np.testing.assert_allclose(metrics["loss/policy"], -own.mean(), rtol=1e-3, atol=1e-4)


def test_everything_learns_and_the_target_follows(updated):
    _, state, (after, _, _) = updated
    for part in ("encoder", "actor", "critic"):
        assert any((a != b).any() for a, b in zip(*(jax.tree.leaves(s.params[part]) for s in (state, after)), strict=True)), part
    old, new, moved = state.extra.target, after.params["critic"], after.extra.target
    jax.tree.map(lambda a, b, m: np.testing.assert_allclose(m, 0.75 * a + 0.25 * b, rtol=1e-4, atol=1e-6), old, new, moved)


def test_noise_fades_and_is_not_deployed(updated):
    algorithm, state, _ = updated
    later = state._replace(step=jnp.int32(9))
    assert (algorithm.behaviour(state).std, algorithm.deployable(state).std) == (0.5, 0.0)
    np.testing.assert_allclose(algorithm.behaviour(later).std, 0.1, rtol=1e-6)


def test_impossible_numbers_are_refused():
    for fields, message in (({"pad": -1}, "pad is -1"), ({"noise_updates": 0}, "noise_updates is 0"), ({"tau": 0.0}, "tau is 0.0")):
        with pytest.raises(ValueError, match=message):
            drqv2.Config(**fields)


# DrM


@pytest.fixture(scope="module")
def slept():
    # The share of dormant neurons of these networks is near 0, so that what is kept is the upper bound.
    algorithm = made(dormancy=drqv2.Dormancy(perturb_every=2, keep=(0.0, 0.5)))
    state = algorithm.init(KEY)
    update = jax.jit(algorithm.update)
    return algorithm, update, state, update(state, pictures(KEY), KEY)


def test_targets_lean_on_the_value_of_one_who_is_awake(slept):
    _, update, state, _ = slept
    awake = state._replace(extra=state.extra._replace(sleep=drqv2.Sleep(jnp.zeros(()), jnp.int32(-1))))
    after, _, feedback = update(awake, pictures(KEY), KEY)
    whole = jax.tree.map(lambda x: x[0], pictures(KEY))
    blur = jax.random.split(jax.random.split(KEY, 1)[0], 3)[1]
    see = lambda observation: NETWORKS.encoder.apply(state.params["encoder"], {}, normalise(after.statistics, observation))[0]  # noqa: E731
    later = see(whole.next_observation)
    noise = np.clip(0.119203 * np.asarray(jax.random.normal(blur, (8, 1))), -0.3, 0.3)  # sigmoid(-2)
    action = np.clip(np.tanh(NETWORKS.actor.apply(state.params["actor"], {}, later)[0]["mean"]) + noise, -1, 1)
    ahead = np.asarray(NETWORKS.critic.apply(state.extra.target, {}, (later, action))[0][..., 0]).min(0)
    value = np.asarray(NETWORKS.value.apply(state.params["value"], {}, later)[0][..., 0])
    share = 0.6 / (1 + np.exp(-0.2 / 0.02))
    target = sum(np.asarray(whole.reward[:, k]) * GAMMA**k for k in range(3)) + GAMMA**3 * (share * value + (1 - share) * ahead)
    now = np.asarray(NETWORKS.critic.apply(state.params["critic"], {}, (see(whole.observation), whole.action))[0][..., 0])
    np.testing.assert_allclose(feedback["priority"][0], np.abs(now - target).mean(0), rtol=1e-3, atol=1e-5)


def test_noise_follows_the_share_of_dormant_neurons_and_fades_from_the_awakening_on(slept):
    algorithm, update, state, _ = slept

    def std(share, awoke, step):
        sleep = drqv2.Sleep(jnp.float32(share), jnp.int32(awoke))
        return float(algorithm.behaviour(state._replace(step=jnp.int32(step), extra=state.extra._replace(sleep=sleep))).std)

    assert std(0.2, -1, 50) == pytest.approx(0.5) and std(1.0, -1, 50) > 0.99
    assert std(0.0, 50, 50) == pytest.approx(0.5) and std(0.0, 50, 52) == pytest.approx(0.3)  # half way from 0.5 to 0.1
    assert std(0.9, 50, 90) > 0.99
    after = update(state._replace(step=jnp.int32(6)), pictures(KEY), KEY)[0]
    share = float(after.extra.sleep.share)
    assert after.extra.sleep.awoke == (7 if share < 0.2 else -1)


def test_perturbation_mixes_dense_layers_of_all_but_the_encoder(slept):
    _, update, _, (first, _, _) = slept
    first = first._replace(extra=first.extra._replace(sleep=drqv2.Sleep(jnp.zeros(()), jnp.int32(-1))))  # noise that knows no step

    def both(key):
        """After a second batch, with perturbation and, as if it were the third, without."""
        return (flatten_names(update(first._replace(step=step), pictures(key), KEY)[0].params) for step in (jnp.int32(1), jnp.int32(2)))

    (mixed, free), (mixed_too, free_too) = both(KEY), both(jax.random.key(7))
    changed = {name for name in mixed if not np.array_equal(mixed[name], free[name])}
    assert {name.partition("/")[0] for name in changed} == {"actor", "critic", "value"}
    assert not any("norm" in name for name in changed)
    for name in ("critic/trunk/features/kernel", "actor/head/output/kernel"):  # half of it is a draw, whatever was learnt
        np.testing.assert_allclose(mixed[name] - 0.5 * free[name], mixed_too[name] - 0.5 * free_too[name], atol=1e-5)


def test_dormant_share_counts_outputs_of_dense_layers():
    def call():
        params = {"trunk": state["trunk"], "head": state["head"]}
        return NETWORKS.actor.apply(params, {}, seen)

    state = dict(NETWORKS.actor.init(KEY)[0])
    whole = jax.tree.map(lambda x: x[0], pictures(KEY))
    seen = NETWORKS.encoder.apply(NETWORKS.encoder.init(KEY)[0], {}, whole.observation)[0]
    assert dormant_share(call, 0.0) == 0.0 and dormant_share(call, 1e9) == 1.0
    kernel = state["trunk"]["features"]["kernel"]
    state["trunk"] = state["trunk"] | {"features": {"kernel": kernel.at[:, :3].set(0.0), "bias": jnp.zeros(6)}}
    np.testing.assert_allclose(dormant_share(call, 1e-6), 3 / (6 + 8 + 1), rtol=1e-6)
    with pytest.raises(ValueError, match="no dense layer"):
        dormant_share(lambda: None, 0.1)
