"""Batches from a policy acting in many worlds."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxrl.ops.specs import transition_spec
from jaxrl.ops.worlds import where_rows, world_keys
from jaxrl.rollout.auto_reset import Draws, Worlds, auto_reset
from jaxrl.rollout.episodes import forget, means
from jaxrl.types import Array, Curriculum, Env, Key, Metrics, Params, Policy, PyTree, Source, Transition


@dataclass(frozen=True)
class Config:
    """`pool_size` starts are made once and shared by all worlds."""

    num_worlds: int = 1024
    unroll_length: int = 24
    pool_size: int = 512
    stagger: bool = True

    def __post_init__(self) -> None:
        for name in ("num_worlds", "unroll_length", "pool_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")


class RolloutState(NamedTuple):
    """Worlds between two batches, and what they need to go on."""

    worlds: Worlds
    carry: PyTree  # of the policy, [B, ...]
    pool: PyTree  # [pool_size, ...] environment states, the same on every device
    draws: Draws  # the curriculum, the same on every device


def rollout(config: Config, env: Env, curriculum: Curriculum, policy: Policy, mesh: Mesh | None = None) -> Source:
    """A source of `Transition`s `[unroll_length, num_worlds, ...]` by `policy`, physics drawn by `curriculum`.

    `observe` lets the curriculum see the outcomes of the episodes that ended. On a mesh the worlds are shared out over the axis `data`; the
    batch does not depend on the number of devices.

    Raises:
        ValueError: the numbers do not divide.
    """
    devices = 1 if mesh is None else mesh.shape["data"]
    executed = policy.spec.executed_steps
    if config.num_worlds % devices:
        raise ValueError(f"num_worlds is {config.num_worlds}, which {devices} devices on the mesh axis `data` do not divide")
    if config.unroll_length % executed:
        raise ValueError(f"unroll_length is {config.unroll_length}, no multiple of the {executed} steps the policy executes per inference")
    worlds_of = auto_reset(env, curriculum, config.pool_size, config.stagger)
    per_device = config.num_worlds // devices

    def own_index() -> Array:
        first = 0 if mesh is None else jax.lax.axis_index("data") * per_device
        return first + jnp.arange(per_device, dtype=jnp.int32)

    def init_local(key: Key, behaviour: Params) -> RolloutState:
        del behaviour
        make, begin = jax.random.split(key)
        draws = Draws(curriculum.init(), curriculum.tally())
        starts = worlds_of.pool(make, draws)
        return RolloutState(worlds_of.init(begin, own_index(), starts, draws), policy.init(per_device), starts, draws)

    def next_local(state: RolloutState, behaviour: Params, key: Key) -> tuple[RolloutState, Transition]:
        fresh_carry = policy.init(per_device)

        def execute(state: RolloutState, now: tuple[Array, Array, dict[str, Array]]) -> tuple[RolloutState, Transition]:
            step, action, extras = now
            before = state.worlds.observation
            worlds, draws, result, ended = worlds_of.step(state.worlds, action, state.pool, state.draws, jax.random.fold_in(key, 2 * step))
            carry = where_rows(ended, fresh_carry, state.carry)
            taken = Transition(before, action, result.reward, result.discount, result.truncation, result.observation, extras)
            return RolloutState(worlds, carry, state.pool, draws), taken

        def look_and_execute(state: RolloutState, now: tuple[Array, Array, dict[str, Array]]) -> tuple[RolloutState, Transition]:
            looks = jnp.full(per_device, now[0] % executed > 0)  # the first of these observations is the one that `act` was shown
            carry = where_rows(looks, policy.remember(state.worlds.observation, state.carry), state.carry)
            return execute(state._replace(carry=carry), now)

        def infer(state: RolloutState, first: Array) -> tuple[RolloutState, Transition]:
            keys = world_keys(jax.random.fold_in(key, 2 * first + 1), state.worlds.number)
            chunk, carry, extras = policy.act(behaviour, state.worlds.observation, state.carry, keys, None)
            state = state._replace(carry=carry)
            if executed == 1:
                return execute(state, (first, chunk[:, 0], extras))
            actions = jnp.moveaxis(chunk[:, :executed], 1, 0)
            repeated = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (executed, *x.shape)), extras)
            return jax.lax.scan(look_and_execute, state, (first + jnp.arange(executed), actions, repeated))

        before = state.draws.tally
        worlds = state.worlds._replace(episodes=forget(state.worlds.episodes))
        state = state._replace(worlds=worlds, draws=Draws(state.draws.state, curriculum.tally()))
        state, batch = jax.lax.scan(infer, state, jnp.arange(0, config.unroll_length, executed))
        new = state.draws.tally if mesh is None else jax.lax.psum(state.draws.tally, "data")
        state = state._replace(draws=Draws(state.draws.state, jax.tree.map(jnp.add, before, new)))
        if executed > 1:
            batch = jax.tree.map(lambda x: jnp.reshape(x, (config.unroll_length, *x.shape[2:])), batch)
        return state, batch

    def observe(state: RolloutState, feedback: PyTree) -> RolloutState:
        del feedback
        return state._replace(draws=Draws(curriculum.observe(*state.draws), curriculum.tally()))

    def metrics(state: RolloutState) -> Metrics:
        return means(state.worlds.episodes) | curriculum.metrics(state.draws.state)

    if mesh is None:
        init, advance = init_local, next_local
    else:
        data: Any = PartitionSpec("data")
        everywhere: Any = PartitionSpec()
        state_spec = RolloutState(data, data, everywhere, everywhere)
        init = jax.shard_map(init_local, mesh=mesh, in_specs=(everywhere, everywhere), out_specs=state_spec, check_vma=False)
        advance = jax.shard_map(
            next_local,
            mesh=mesh,
            in_specs=(state_spec, everywhere, everywhere),
            out_specs=(state_spec, PartitionSpec(None, "data")),
            check_vma=False,
        )

    return Source(
        spec=transition_spec(env.spec, policy.spec.extras, (config.unroll_length, config.num_worlds)),
        init=init,
        next=advance,
        steps_per_batch=config.unroll_length * config.num_worlds,
        observe=observe,
        metrics=metrics,
    )
