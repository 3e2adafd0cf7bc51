"""What every environment, and every curriculum of its physics, must keep to. See test_conformance."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.curricula.static import fixed
from jaxrl.rollout.auto_reset import Draws, auto_reset
from jaxrl.types import ArraySpec, Curriculum, Env, Key, PyTree
from tests.conformance import KEY, assert_equal, build, cases, rows, shapes, spec_of

ENVS = cases(Env)
WORLDS = 3
THEIRS = "jaxrl_envs.adapters."  # other people's environments tell neither units nor names


@functools.cache
def worlds(path: str, factory: Callable[..., Env]) -> tuple[Env, Callable, Callable, Callable, PyTree]:
    env = build(path, factory)
    physics = jax.vmap(env.sample)(jax.random.split(KEY, WORLDS))
    return env, jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step)), jax.jit(jax.vmap(env.restart)), physics


def random_action(env: Env, key: Key, size: int = WORLDS) -> jax.Array:
    return jax.random.uniform(key, (size, *env.spec.action.shape), minval=-1.0, maxval=1.0)


@pytest.mark.parametrize(("path", "factory"), ENVS)
def test_env_shows_what_its_spec_says(path, factory):
    env, reset, step, restart, physics = worlds(path, factory)
    keys = jax.random.split(KEY, WORLDS)
    state, observation = reset(keys, physics)
    later, time_step = step(state, random_action(env, KEY), physics, keys)
    again, start = restart(state, physics, keys)
    for seen in (observation, time_step.observation, start):
        assert spec_of(seen, ("world",)) == {name: ArraySpec(("world", *s.shape), s.dtype) for name, s in env.spec.observation.items()}
    assert shapes(state) == shapes(later) == shapes(again), "an env state must keep its structure, or it cannot be scanned"
    scalars = {name: getattr(time_step, name) for name in ("reward", "discount", "truncation")} | time_step.metrics
    assert all(value.shape == (WORLDS,) and value.dtype == jnp.float32 for value in scalars.values())
    assert set(time_step.metrics) == set(env.spec.metrics)
    assert shapes(env.nominal) == shapes(jax.jit(env.sample)(KEY))
    for name in env.spec.observation:
        assert name.split("/")[0] in ("state", "privileged", "image", "task"), f"{path}: {name} begins with no known group"
    for name, part in {"action": env.spec.action, **env.spec.observation}.items():
        told = path.startswith(THEIRS) or (part.unit and len(part.names) == part.shape[-1])
        assert told or name.startswith(("image/", "task/")), f"{path}: {name} lacks its unit or the names of its dimensions"


@pytest.mark.parametrize(("path", "factory"), ENVS)
def test_env_is_deterministic_and_worlds_are_independent(path, factory):
    env, reset, step, _, physics = worlds(path, factory)
    keys = jax.random.split(KEY, WORLDS)
    state, observation = reset(keys, physics)
    assert_equal((state, observation), reset(keys, physics))
    action = random_action(env, KEY)
    result = step(state, action, physics, keys)
    assert_equal(result, step(state, action, physics, keys))
    other = jnp.concatenate([action[:1], -action[1:]])
    assert_equal(rows(result, slice(1)), rows(step(state, other, physics, keys), slice(1)))


@pytest.mark.parametrize(("path", "factory"), ENVS)
def test_env_bears_random_actions(path, factory):
    env, reset, _, _, physics = worlds(path, factory)

    def body(state, key):
        return jax.vmap(env.step)(state, random_action(env, key), physics, jax.random.split(key, WORLDS))

    state, _ = reset(jax.random.split(KEY, WORLDS), physics)
    state, steps = jax.jit(lambda s: jax.lax.scan(body, s, jax.random.split(KEY, 25)))(state)
    floats = [leaf for leaf in jax.tree.leaves((state, steps)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert all(jnp.isfinite(leaf).all() for leaf in floats)
    assert jnp.isin(steps.discount, jnp.array([0.0, 1.0])).all() and jnp.isin(steps.truncation, jnp.array([0.0, 1.0])).all()


@pytest.mark.parametrize(("path", "factory"), ENVS)
def test_episode_is_cut_at_its_length(path, factory):
    env, *_ = worlds(path, factory)
    parts = auto_reset(env, fixed(env.sample), pool_size=2, stagger=False)

    def run(key):
        draws = Draws((), ())
        pool = parts.pool(key, draws)
        begun = parts.init(key, jnp.arange(WORLDS, dtype=jnp.int32), pool, draws)
        nearly = begun._replace(clock=jnp.full_like(begun.clock, env.spec.episode_length - 2))

        def body(state, key):
            state, _, result, ended = parts.step(state, jnp.zeros((WORLDS, *env.spec.action.shape)), pool, draws, key)
            return state, (ended, result.discount, result.truncation)

        return jax.lax.scan(body, nearly, jax.random.split(key, 2))

    state, (ended, discount, truncation) = jax.jit(run)(KEY)
    assert (ended == ((discount == 0) | (truncation == 1))).all()
    assert (ended[0] | ended[1]).all() and (state.clock <= 1).all()


# Curricula


@pytest.mark.parametrize(("path", "factory"), cases(Curriculum))
def test_curriculum(path, factory):
    curriculum = build(path, factory)
    state, keys = curriculum.init(), jax.random.split(KEY, 6)
    physics, tags = jax.jit(jax.vmap(curriculum.draw, (None, 0)))(state, keys)
    one, tag = curriculum.draw(state, keys[2])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[2], rtol=1e-6), (one, tag), (physics, tags))
    outcomes = jnp.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    tally = jax.jit(curriculum.credit)(curriculum.tally(), tags, outcomes, jnp.ones(6))
    assert shapes(tally) == shapes(curriculum.tally()), "a tally must keep its structure, or it cannot be scanned"
    halves = [curriculum.credit(curriculum.tally(), rows(tags, s), outcomes[s], jnp.ones(3)) for s in (slice(3), slice(3, 6))]
    assert_equal(tally, jax.tree.map(jnp.add, *halves))
    assert_equal(curriculum.tally(), curriculum.credit(curriculum.tally(), tags, outcomes, jnp.zeros(6)))
    after = jax.jit(curriculum.observe)(state, tally)
    assert shapes(after) == shapes(state), "a curriculum's state must keep its structure, or it cannot be scanned"
    assert all(jnp.shape(value) == () for value in curriculum.metrics(after).values())
