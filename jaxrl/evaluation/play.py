"""Whole episodes of a policy in many worlds, in one compiled call."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Env, Key, Observation, Params, Policy, PyTree, TimeStep


class Step(NamedTuple):
    """One step of N worlds; what `keep` chooses from."""

    state: PyTree  # before the step
    observation: Observation  # that the policy saw
    action: Array  # [N, A]
    result: TimeStep


class Played(NamedTuple):
    """T steps of N episodes."""

    alive: Array  # [T, N] bool: the step belongs to the episode, not to what follows its end
    terminated: Array  # [N] bool
    diverged: Array  # [N] bool: stopped because something was not finite
    kept: Any  # what `keep` chose, [T, N, ...]


def returns(step: Step) -> dict[str, Array]:
    """Keeps reward and metrics."""
    return {"reward": step.result.reward} | step.result.metrics


def play(
    env: Env, policy: Policy, num_steps: int | None = None, keep: Callable[[Step], Any] = returns
) -> Callable[[Params, Params, Key], Played]:
    """Compiles on first use: (policy params, physics params [N, ...], key) -> N episodes of at most `num_steps`, by default whole ones.

    Worlds run on after their episode's end, unseen: no step after it is `alive`. Chunked policies are asked once per executed chunk.
    """
    steps = num_steps or env.spec.episode_length
    executed = policy.spec.executed_steps

    def one(carry: tuple, now: tuple[Array, Array, Params]) -> tuple[tuple, tuple]:
        state, observation, alive, terminated, diverged = carry
        step_key, action, parameters = now
        keys = jax.vmap(jax.random.fold_in, (None, 0))(step_key, jnp.arange(action.shape[0]))
        later, result = jax.vmap(env.step)(state, action, parameters, keys)
        good = jnp.isfinite(result.reward) & jnp.stack(
            [jnp.isfinite(x.reshape(x.shape[0], -1).sum(1)) for x in result.observation.values() if jnp.issubdtype(x.dtype, jnp.floating)]
        ).all(0)
        kept = keep(Step(state, observation, action, result))
        terminated = terminated | (alive & good & (result.discount == 0))
        diverged = diverged | (alive & ~good)
        seen = alive & good
        alive = seen & (result.discount > 0) & (result.truncation == 0)
        return (later, result.observation, alive, terminated, diverged), (seen, kept)

    @jax.jit
    def run(params: Params, parameters: Params, key: Key) -> Played:
        size = jax.tree.leaves(parameters)[0].shape[0]
        begin, run_key = jax.random.split(key)
        state, observation = jax.vmap(env.reset)(jax.random.split(begin, size), parameters)
        no = jnp.zeros(size, bool)

        def infer(carry: tuple, first: Array) -> tuple[tuple, tuple]:
            worlds, memory = carry
            act_key, step_key = jax.random.split(jax.random.fold_in(run_key, first))
            keys = jax.vmap(jax.random.fold_in, (None, 0))(act_key, jnp.arange(size))
            chunk, memory, _ = policy.act(params, worlds[1], memory, keys, None)

            def execute(worlds: tuple, k: Array) -> tuple[tuple, tuple]:
                return one(worlds, (jax.random.fold_in(step_key, k), chunk[:, k], parameters))

            worlds, out = jax.lax.scan(execute, worlds, jnp.arange(executed))
            return (worlds, memory), out

        carry = ((state, observation, ~no, no, no), policy.init(size))
        (worlds, _), out = jax.lax.scan(infer, carry, jnp.arange(-(-steps // executed)))
        alive, kept = jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])[:steps], out)
        return Played(alive, worlds[3], worlds[4], kept)

    return run


def draw(distribution: Callable[[Key], Params], key: Key, count: int) -> Params:
    """`count` draws of physics parameters, [count, ...]."""
    return jax.jit(jax.vmap(distribution))(jax.random.split(key, count))


def repeat(parameters: Params, count: int) -> Params:
    """The same physics parameters in `count` worlds."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x[None], (count, *x.shape)), parameters)
