"""A collector with a memory behind it: the part that `replay` and `sequences` have in common."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops.packing import nbytes
from jaxrl.replay.reward_scale import RewardScale, Scaling
from jaxrl.replay.ring import Ring, Steps
from jaxrl.replay.store import Chosen, Store
from jaxrl.types import Array, Key, Metrics, Params, PyTree, Source, Spec, Transition


class ReplayState(NamedTuple):
    """What there is between two batches."""

    collector: PyTree
    ring: Ring
    drawn: Steps | tuple[()]  # [updates, batch], those of the last batch, where their priorities will be reported
    priorities: Any  # `Priorities`, or ()
    scale: RewardScale | tuple[()]


class Memory(NamedTuple):
    """A ring with what is drawn from it, and how that is handed over."""

    store: Store
    chosen: Chosen
    scaling: Scaling | None
    spec: Spec  # of batches
    batch: Callable[[Any, Array, Array | None], PyTree]  # (what was fetched, weights, what rewards are divided by) -> batch


def collected(memory: Memory, initial_steps: int, num_worlds: int, collector: Source, filler: Source | None) -> Source:
    """A source that lets `collector` act once for each batch, and `filler` before the first one, and draws from what both have done."""
    kept, by_priority, scaling = memory.store, memory.chosen.exponent > 0, memory.scaling
    rounds = -(-initial_steps // collector.steps_per_batch)

    def write(ring: Ring, priorities: Any, scale: Any, batch: Transition) -> tuple:
        return *kept.write(ring, priorities, batch), scaling.update(scale, batch) if scaling else ()

    def write_and_draw(ring: Ring, priorities: Any, scale: Any, batch: Transition, key: Key) -> tuple:
        ring, priorities, scale = write(ring, priorities, scale, batch)
        at, found, weight = kept.draw(ring, priorities, key)
        return ring, at if by_priority else (), priorities, scale, memory.batch(found, weight, scaling.divisor(scale) if scaling else None)

    # A collector on the host is called from Python; what follows is compiled all the same.
    compiled: Any = (lambda f, **_: f) if collector.pure else jax.jit
    remember = compiled(write, donate_argnums=(0, 1, 2))
    step = compiled(write_and_draw, donate_argnums=(0, 1, 2))
    report = compiled(kept.report, donate_argnums=1)

    def fill(state: ReplayState, source: Source, behaviour: Params, key: Key) -> ReplayState:
        """With the first steps, made by `source`, whose state is `state.collector`."""

        def body(state: ReplayState, key: Key) -> tuple[ReplayState, None]:
            inner, batch = source.next(state.collector, behaviour, key)
            ring, priorities, scale = remember(state.ring, state.priorities, state.scale, batch)
            return ReplayState(inner, ring, state.drawn, priorities, scale), None

        keys = jax.random.split(key, rounds)
        if source.pure:
            return jax.lax.scan(body, state, keys)[0]
        return functools.reduce(lambda state, each: body(state, each)[0], keys, state)

    def without_steps(state: PyTree) -> ReplayState:
        ring, priorities = kept.init()
        nothing = jnp.zeros((memory.chosen.updates, memory.chosen.batch), jnp.int32)
        return ReplayState(
            collector=state,
            ring=ring,
            drawn=Steps(nothing, jnp.copy(nothing)) if by_priority else (),
            priorities=priorities,
            scale=scaling.init(num_worlds) if scaling else (),
        )

    def empty(key: Key, behaviour: Params) -> ReplayState:
        return without_steps((collector.empty or collector.init)(key, behaviour))

    def init(key: Key, behaviour: Params) -> ReplayState:
        own, its, run = jax.random.split(key, 3)
        source = collector if filler is None else filler
        state = fill(without_steps(source.init(its, behaviour)), source, behaviour, run)
        if filler is None:
            return state
        if filler is not collector:
            filler.close()  # it has done its work
        # The collector's worlds begin episodes of their own.
        scale: Any = state.scale
        if scaling:
            scale = scale._replace(paid=jnp.zeros_like(scale.paid))
        return state._replace(collector=collector.init(own, behaviour), scale=scale)

    def advance(state: ReplayState, behaviour: Params, key: Key) -> tuple[ReplayState, PyTree]:
        act, choose = jax.random.split(key)
        inner, taken = collector.next(state.collector, behaviour, act)
        *later, batch = step(state.ring, state.priorities, state.scale, taken, choose)
        return ReplayState(inner, *later), batch

    def observe(state: ReplayState, feedback: PyTree) -> ReplayState:
        state = state._replace(collector=collector.observe(state.collector, feedback))
        if not by_priority:
            return state
        if "priority" not in feedback:
            raise ValueError(f"priority_exponent is {memory.chosen.exponent}, but the algorithm reports no priorities; set it to 0")
        return state._replace(priorities=report(state.drawn, state.priorities, feedback["priority"]))

    def metrics(state: ReplayState) -> Metrics:
        own = {"replay/steps": state.ring.is_step.sum().astype(jnp.float32)}
        if scaling:
            scale: Any = state.scale
            own["replay/reward_divisor"] = scaling.divisor(scale)
        return collector.metrics(state.collector) | own

    ring, priorities = jax.eval_shape(kept.init)
    allocation = {f"replay/{name}": nbytes(part) for name, part in ring._asdict().items() if name not in ("head", "used")}
    return Source(
        spec=memory.spec,
        init=init,
        next=advance,
        observe=observe,
        pure=collector.pure,
        steps_per_batch=collector.steps_per_batch,
        initial_steps=rounds * collector.steps_per_batch,
        allocation=allocation | ({"replay/priorities": nbytes(priorities)} if by_priority else {}),
        metrics=metrics,
        close=collector.close,
        empty=empty,
    )
