"""Batches from worlds on the host: the same as those of compiled worlds, and loud where a run cannot go on as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.rollout.host_rollout import Config, host_rollout
from jaxrl.types import ArraySpec, Env, EnvSpec, Policy, PolicySpec, TimeStep
from tests.conformance import assert_equal
from tests.hosts import on_host

LENGTH, WORLDS = 5, 3
KEY = jax.random.key(0)


def counting_env() -> Env:
    """Counts its steps from a random start below 1 on; an action above 0.5 terminates, one below -0.5 makes the state NaN."""
    spec = EnvSpec("counting", {"state/count": ArraySpec((1,))}, ArraySpec((1,)), LENGTH, 0.1, ("count",))

    def reset(key, parameters):
        count = jax.random.uniform(key)
        return count, {"state/count": count[None]}

    def step(count, action, parameters, key):
        count = jnp.where(action[0] < -0.5, jnp.nan, count + 1)
        discount = jnp.where(action[0] > 0.5, 0.0, 1.0)
        return count, TimeStep({"state/count": count[None]}, jnp.ones(()), discount, jnp.zeros(()), {"count": count})

    return Env(spec, reset, step, lambda count, parameters, key: (count, {"state/count": count[None]}), {}, lambda key: {})


def scripted(wanted) -> Policy:
    """`wanted(steps of the episode [B]) -> actions [B]`; the carry counts the steps, and shows in the extras."""
    spec = PolicySpec({"state/count": ArraySpec((1,))}, ArraySpec((1,)), extras={"steps": ArraySpec((), "int32")})

    def act(params, observation, carry, key, context=None):
        return wanted(carry)[:, None, None], carry + 1, {"steps": carry}

    return Policy(spec, lambda size: jnp.zeros(size, jnp.int32), act)


def still(steps):
    return jnp.zeros(steps.shape)


def source_of(wanted=still, **config):
    return host_rollout(Config(num_worlds=WORLDS, unroll_length=12, **config), on_host(counting_env()), scripted(wanted))


def test_truncations_keep_the_true_final_observation_and_the_carry_starts_anew():
    source = source_of(stagger=False)
    state, batch = source.next(source.init(KEY, ()), (), KEY)
    steps, next_steps = np.asarray(batch.observation["state/count"])[..., 0], np.asarray(batch.next_observation["state/count"])[..., 0]
    np.testing.assert_allclose(next_steps, steps + 1, rtol=1e-6)
    assert (batch.truncation.sum(1) == np.where(np.arange(12) % LENGTH == LENGTH - 1, WORLDS, 0)).all() and (batch.discount == 1).all()
    np.testing.assert_array_equal(batch.extras["steps"], np.broadcast_to((np.arange(12) % LENGTH)[:, None], (12, WORLDS)))
    starts = steps[::LENGTH]
    assert (starts < 1).all() and len(np.unique(starts)) == starts.size, "each episode has a start of its own"
    metrics = source.metrics(state)
    assert metrics["episode/return"] == LENGTH and metrics["episode/length"] == LENGTH and metrics["episode/fall_rate"] == 0
    source.close()


def test_terminations_and_worlds_that_diverge():
    third = lambda steps: jnp.where(steps == 2, jnp.array([1.0, -1.0, 0.0]), 0.0)  # noqa: E731
    source = source_of(third, stagger=False)
    state, batch = source.next(source.init(KEY, ()), (), KEY)
    np.testing.assert_array_equal(batch.discount[2], [0, 1, 1])
    np.testing.assert_array_equal(batch.truncation[2], [0, 1, 0])
    np.testing.assert_array_equal(batch.reward[2], [1, 0, 1])
    assert jnp.isfinite(batch.next_observation["state/count"]).all()
    np.testing.assert_array_equal(batch.next_observation["state/count"][2, 1], batch.observation["state/count"][2, 1])
    np.testing.assert_array_equal(batch.extras["steps"][3], [0, 0, 3])
    metrics = source.metrics(state)
    assert metrics["episode/diverged"] == 4 and metrics["episode/fall_rate"] == 4 / 6
    source.close()


def test_stagger_spreads_the_first_truncations():
    source = source_of(stagger=True)
    state, batch = source.next(source.init(KEY, ()), (), KEY)
    assert (np.diff(np.asarray(batch.truncation).argmax(0)) != 0).any()
    assert source.metrics(state)["episode/length"] == LENGTH, "partial episodes are no samples"
    source.close()


def test_the_same_keys_give_the_same_batches_and_another_state_begins_anew_with_a_warning():
    first, second = source_of(), source_of()
    runs = []
    for source in (first, second):
        state, one = source.next(source.init(KEY, ()), (), jax.random.key(1))
        runs.append((state, one, source.next(state, (), jax.random.key(2))[1]))
    assert_equal(*runs)
    saved = jax.tree.map(np.asarray, runs[0][0])
    resumed = []
    for source in (first, second):  # the simulators are at a later step than this state
        with pytest.warns(UserWarning, match="counting are not where this state left them.*all worlds begin new episodes"):
            state, batch = source.next(jax.tree.map(jnp.asarray, saved), (), jax.random.key(3))
        resumed.append(batch)
        assert (batch.observation["state/count"][0] < 1).all() and (batch.extras["steps"][0] == 0).all()
        assert state.progress.episodes.finished.sum() > 0.9 * saved.progress.episodes.finished.sum() > 0
        source.next(state, (), jax.random.key(4))  # goes on without another
        source.close()
    assert_equal(*resumed)


def test_chunks_are_executed_before_the_next_inference():
    policy = scripted(still)
    chunk = lambda params, observation, carry, key, context=None: (  # noqa: E731
        jnp.arange(4.0)[None, :, None] / 100 + jnp.zeros((WORLDS, 1, 1)),
        carry + 1,
        {"steps": carry},
    )
    policy = policy._replace(spec=policy.spec._replace(horizon=4, executed_steps=3), act=chunk)
    source = host_rollout(Config(num_worlds=WORLDS, unroll_length=6, stagger=False), on_host(counting_env()), policy)
    _, batch = source.next(source.init(KEY, ()), (), KEY)
    np.testing.assert_allclose(batch.action[:, 0, 0], np.tile([0.0, 0.01, 0.02], 2))
    with pytest.raises(ValueError, match="unroll_length is 7, no multiple of the 3 steps"):
        host_rollout(Config(num_worlds=WORLDS, unroll_length=7), on_host(counting_env()), policy)


def test_next_after_close():
    source = source_of()
    state = source.init(KEY, ())
    source.close()
    with pytest.raises(RuntimeError, match="before init, or after close"):
        source.next(state, (), KEY)
