"""Whole episodes of a policy in many worlds, in one compiled call."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops.worlds import finite_rows, where_rows, world_keys
from jaxrl.types import Array, Env, Key, Observation, Params, Policy, PyTree, TimeStep


class Step(NamedTuple):
    """One step of N worlds; what `keep` chooses from."""

    state: PyTree  # before the step
    observation: Observation  # that the policy saw
    action: Array  # [N, A]
    result: TimeStep
    extras: dict[str, Array] = {}  # of the policy, at its last inference


class Played(NamedTuple):
    """T steps of N episodes."""

    alive: Array  # [T, N] bool: the step belongs to the episode, not to what follows its end
    terminated: Array  # [N] bool
    diverged: Array  # [N] bool: stopped because its state or what a step yielded was not finite
    kept: Any  # what `keep` chose, [T, N, ...]


class _Worlds(NamedTuple):
    """N worlds between two steps."""

    state: PyTree
    observation: Observation
    alive: Array  # [N] bool, as below
    terminated: Array
    diverged: Array


def returns(step: Step) -> dict[str, Any]:
    """Keeps reward and metrics, those of the policy too."""
    own = {name: x for name, x in step.extras.items() if name.startswith("policy/")}
    return {"reward": step.result.reward} | step.result.metrics | own


def play(
    env: Env,
    policy: Policy,
    num_steps: int | None = None,
    keep: Callable[[Step], Any] = returns,
    num_episodes: int | None = None,
) -> Callable[[Params, Params, Key], Played]:
    """Compiles on first use: (policy params, physics params [N, ...], key) -> N episodes of at most `num_steps`, by default whole ones.

    Worlds run on after their episode's end, unseen: no step after it is `alive`. Chunked policies are asked once per executed chunk.
    N is `num_episodes`, by default the number of rows of the physics params.

    Raises:
        ValueError: at the call, the physics params have no leaves to count rows of, and `num_episodes` is not given.
    """
    steps = num_steps or env.spec.episode_length
    executed = policy.spec.executed_steps

    def one(worlds: _Worlds, action: Array, extras: Any, parameters: Params, key: Key) -> tuple[_Worlds, tuple[Array, Any]]:
        later, result = jax.vmap(env.step)(worlds.state, action, parameters, world_keys(key, jnp.arange(action.shape[0])))
        good = finite_rows((jax.vmap(env.vital)(later), result.observation, result.reward, result.discount, result.truncation))
        kept = keep(Step(worlds.state, worlds.observation, action, result, extras))
        seen = worlds.alive & good
        after = _Worlds(
            state=later,
            observation=result.observation,
            alive=seen & (result.discount > 0) & (result.truncation == 0),
            terminated=worlds.terminated | (seen & (result.discount == 0)),
            diverged=worlds.diverged | (worlds.alive & ~good),
        )
        return after, (seen, kept)

    @jax.jit
    def run(params: Params, parameters: Params, key: Key) -> Played:
        size = _rows(parameters) if num_episodes is None else num_episodes
        begin, run_key = jax.random.split(key)
        state, observation = jax.vmap(env.reset)(jax.random.split(begin, size), parameters)
        no = jnp.zeros(size, bool)

        def infer(carry: tuple[_Worlds, PyTree], first: Array) -> tuple[tuple[_Worlds, PyTree], tuple[Array, Any]]:
            worlds, memory = carry
            act_key, step_key = jax.random.split(jax.random.fold_in(run_key, first))
            chunk, memory, extras = policy.act(params, worlds.observation, memory, world_keys(act_key, jnp.arange(size)), None)

            def execute(carry: tuple[_Worlds, PyTree], k: Array) -> tuple[tuple[_Worlds, PyTree], tuple[Array, Any]]:
                worlds, memory = carry
                memory = where_rows(jnp.full(size, k > 0), policy.remember(worlds.observation, memory), memory)
                worlds, out = one(worlds, chunk[:, k], extras, parameters, jax.random.fold_in(step_key, k))
                return (worlds, memory), out

            return jax.lax.scan(execute, (worlds, memory), jnp.arange(executed))

        carry = (_Worlds(state, observation, ~no, no, no), policy.init(size))
        (worlds, _), out = jax.lax.scan(infer, carry, jnp.arange(-(-steps // executed)))
        alive, kept = jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])[:steps], out)
        return Played(alive, worlds.terminated, worlds.diverged, kept)

    return run


def _rows(parameters: Params) -> int:
    leaves = jax.tree.leaves(parameters)
    if not leaves:
        raise ValueError("play: these physics params have no leaves to count the episodes by; give it num_episodes")
    return leaves[0].shape[0]


def draw(distribution: Callable[[Key], Params], key: Key, count: int) -> Params:
    """`count` draws of physics parameters, [count, ...]."""
    return jax.jit(jax.vmap(distribution))(jax.random.split(key, count))


def repeat(parameters: Params, count: int) -> Params:
    """The same physics parameters in `count` worlds."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x[None], (count, *x.shape)), parameters)
