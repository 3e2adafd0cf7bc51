"""Batches for off-policy methods from a memory of what a policy did, on the device.

Each batch begins with an unroll of the collector, which goes into a ring (`ring.py`); then steps are drawn from all that is there.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxrl.ops.packing import nbytes
from jaxrl.ops.specs import with_axes
from jaxrl.replay import draws
from jaxrl.replay.ring import Followed, Ring, Steps, ring
from jaxrl.types import Array, ArraySpec, Key, Metrics, Params, PyTree, Replayed, Source, Spec, Transition


@dataclass(frozen=True)
class Config:
    """`capacity` counts steps of all worlds; each end of an episode takes the place of one.

    `initial_steps` are made by the filler before the first batch. A batch holds `num_updates` times `batch_size` steps. `priority_exponent`
    0 draws all steps alike; `importance_exponent` 1 makes up for priorities in full (Schaul et al. 2016,
    https://arxiv.org/abs/1511.05952, section 3.4).
    """

    capacity: int = 1_000_000
    batch_size: int = 256
    num_updates: int = 1
    n_step: int = 1
    initial_steps: int = 5000
    priority_exponent: float = 0.0
    importance_exponent: float = 0.4

    def __post_init__(self) -> None:
        for name in ("capacity", "batch_size", "num_updates", "n_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for name in ("initial_steps", "priority_exponent", "importance_exponent"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")


class Priorities(NamedTuple):
    value: Array  # [C, B], the exponent taken already; 0 where there is no step
    largest: Array  # [] of all that algorithms have reported, without the exponent


class ReplayState(NamedTuple):
    """What there is between two batches."""

    collector: PyTree
    ring: Ring
    drawn: Steps | tuple[()]  # [updates, batch], those of the last batch, where their priorities will be reported
    priorities: Priorities | tuple[()]


def _parts(spec: Spec, prefix: str) -> dict[str, ArraySpec]:
    """The arrays of a transition spec behind `prefix`, without its axes of time and worlds."""
    found = {name.removeprefix(prefix): part for name, part in spec.items() if name.startswith(prefix)}
    return {name: ArraySpec(part.shape[2:], part.dtype, part.names, part.unit, part.low, part.high) for name, part in found.items()}


def replayed_from(spec: Spec, n_step: int) -> dict[str, ArraySpec]:
    """The spec of `Replayed` batches made of transitions `[time, world]` of `spec`."""
    kept = {name: part for name, part in spec.items() if name not in ("reward", "truncation", "discount")}
    fields = _parts(kept, "") | {"reward": ArraySpec((n_step,)), "steps": ArraySpec((), "int32")}
    return with_axes(fields | {name: ArraySpec(()) for name in ("discount", "weight")}, ("updates", "batch"))


def _importance(config: Config, probability: Array, stored: Array) -> Array:
    """Weights [updates, batch], at most 1 in each batch (equation 2 of section 3.4)."""
    weight = jnp.power(stored * probability, -config.importance_exponent)
    return weight / weight.max(-1, keepdims=True)


class _Sizes(NamedTuple):
    worlds: int  # on each device
    unroll: int
    slots: int
    devices: int


def _sizes(config: Config, collector: Source, worlds: int, mesh: Mesh | None) -> _Sizes:
    devices = 1 if mesh is None else mesh.shape["data"]
    unroll = collector.steps_per_batch // worlds
    slots = -(-config.capacity // worlds) + 1  # one for the newest observation
    if slots < 2 * unroll + 2:
        raise ValueError(
            f"capacity is {config.capacity:,} steps, {slots - 1} for each of {worlds} worlds, but an unroll of {unroll} steps needs room "
            f"for {2 * unroll + 1}; use at least {worlds * (2 * unroll + 1):,}"
        )
    for name, size in (("num_worlds", worlds), ("batch_size", config.batch_size)):
        if size % devices:
            raise ValueError(f"{name} is {size}, which {devices} devices on the mesh axis `data` do not divide")
    return _Sizes(worlds // devices, unroll, slots, devices)


def replay(config: Config, collector: Source, num_worlds: int, filler: Source | None = None, mesh: Mesh | None = None) -> Source:
    """A source of `Replayed` steps `[num_updates, batch_size]`, drawn from the last `capacity` steps of `collector`.

    `collector` and `filler` are sources of `Transition`s `[T, num_worlds]` of one spec; the filler makes the first steps, as a policy that
    acts at random does, and without one they are the collector's. `observe` takes `{"priority": [updates, batch]}` where there are
    priorities. On a mesh each device keeps the steps of its own worlds; but for priorities, batches do not depend on the number of devices.

    Raises:
        ValueError: the numbers do not divide, or the ring does not hold an unroll.
    """
    sizes = _sizes(config, collector, num_worlds, mesh)
    spec = collector.spec
    memory = ring(_parts(spec, "observation/"), {"action": _parts(spec, "action")[""]}, _parts(spec, "extras/"))
    by_priority = config.priority_exponent > 0
    rounds = -(-config.initial_steps // collector.steps_per_batch)
    whole = jax.eval_shape(lambda: memory.init(sizes.slots, num_worlds))

    def first_entry() -> Array:
        return jnp.int32(0) if mesh is None else jax.lax.axis_index("data") * (config.batch_size // sizes.devices)

    def everywhere(x: Array, reduce: Any) -> Array:
        return x if mesh is None else reduce(x, "data")

    def write_local(state: Ring, priorities: Any, batch: Transition) -> tuple[Ring, Any]:
        later = memory.write(state, batch)
        if by_priority:
            # What is new: steps in slots that were none, or lie within what this unroll has written.
            written = ((later.head - state.head) % sizes.slots)[None]
            new = (jnp.arange(sizes.slots)[:, None] - state.head[None]) % sizes.slots < written
            value = jnp.where(new, jnp.power(priorities.largest, config.priority_exponent), priorities.value)
            priorities = priorities._replace(value=jnp.where(later.is_step, value, 0.0))
        return later, priorities

    def draw_local(state: Ring, priorities: Any, key: Key) -> tuple[Steps, Followed, Array]:
        first = first_entry()
        shape = (config.num_updates, config.batch_size // sizes.devices)
        if by_priority:
            at, probability = draws.prioritised(state, priorities.value, key, config.num_updates, config.batch_size, first, sizes.devices)
            weight = _importance(config, probability, state.is_step.sum().astype(jnp.float32))
        else:
            most = everywhere(state.used.max(), jax.lax.pmax)
            at = draws.uniform(state, key, config.num_updates, config.batch_size, first, sizes.devices, most)
            weight = jnp.ones(shape)
        return at, memory.follow(state, at, config.n_step), weight

    def report_local(drawn: Steps, priorities: Priorities, priority: Array) -> Priorities:
        largest = jnp.maximum(priorities.largest, everywhere(priority.max(), jax.lax.pmax))
        value = priorities.value.at[drawn.slot, drawn.world].set(jnp.power(priority + 1e-6, config.priority_exponent))
        return Priorities(value, largest)

    write, draw, report = write_local, draw_local, report_local
    begin = functools.partial(memory.init, sizes.slots, sizes.worlds)
    if mesh is not None:
        data: Any = PartitionSpec("data")
        rows: Any = PartitionSpec(None, "data")
        none: Any = PartitionSpec()
        rings: Any = Ring(rows, rows, rows, rows, data, data)
        known: Any = Priorities(rows, none) if by_priority else ()
        on: Any = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)
        begin = on(begin, in_specs=(), out_specs=rings)
        write = on(write_local, in_specs=(rings, known, rows), out_specs=(rings, known))
        draw = on(draw_local, in_specs=(rings, known, none), out_specs=(rows, rows, rows))
        report = on(report_local, in_specs=(rows, known, rows), out_specs=known)

    def fill(state: ReplayState, source: Source, behaviour: Params, key: Key) -> ReplayState:
        """With the first steps, made by `source`, whose state is `state.collector`."""

        def body(state: ReplayState, key: Key) -> tuple[ReplayState, None]:
            inner, batch = source.next(state.collector, behaviour, key)
            kept, priorities = store(state.ring, state.priorities, batch)
            return state._replace(collector=inner, ring=kept, priorities=priorities), None

        keys = jax.random.split(key, rounds)
        if source.pure:
            return jax.lax.scan(body, state, keys)[0]
        for each in keys:
            state, _ = body(state, each)
        return state

    # A collector on the host is called from Python; what follows is compiled all the same.
    compiled: Any = (lambda f: f) if collector.pure else functools.partial(jax.jit, donate_argnums=(0, 1))
    store: Any = compiled(write)

    def store_and_draw(state: Ring, priorities: Any, batch: Transition, key: Key) -> tuple:
        state, priorities = write(state, priorities, batch)
        return state, priorities, *draw(state, priorities, key)

    step: Any = compiled(store_and_draw)

    def init(key: Key, behaviour: Params) -> ReplayState:
        own, its, run = jax.random.split(key, 3)
        empty = begin()
        priorities = Priorities(jnp.zeros(empty.is_step.shape), jnp.ones(())) if by_priority else ()
        source = collector if filler is None else filler
        state = ReplayState(source.init(its, behaviour), empty, (), priorities)
        state = fill(state, source, behaviour, run)
        if filler is not None:
            state = state._replace(collector=collector.init(own, behaviour))
        if by_priority:
            nothing = jnp.zeros((config.num_updates, config.batch_size), jnp.int32)
            state = state._replace(drawn=Steps(nothing, nothing))
        return state

    def advance(state: ReplayState, behaviour: Params, key: Key) -> tuple[ReplayState, Replayed]:
        act, choose = jax.random.split(key)
        inner, batch = collector.next(state.collector, behaviour, act)
        kept, priorities, at, found, weight = step(state.ring, state.priorities, batch, choose)
        drawn = at if by_priority else ()
        return ReplayState(inner, kept, drawn, priorities), Replayed(**found._asdict(), weight=weight)

    def observe(state: ReplayState, feedback: PyTree) -> ReplayState:
        state = state._replace(collector=collector.observe(state.collector, feedback))
        if not by_priority:
            return state
        if "priority" not in feedback:
            raise ValueError(f"priority_exponent is {config.priority_exponent}, but the algorithm reports no priorities; set it to 0")
        found: Any = state
        return state._replace(priorities=report(found.drawn, found.priorities, feedback["priority"]))

    def metrics(state: ReplayState) -> Metrics:
        stored = state.ring.is_step.sum().astype(jnp.float32)
        return collector.metrics(state.collector) | {"replay/steps": stored}

    allocation = {f"replay/{name}": nbytes(part) for name, part in whole._asdict().items() if name not in ("head", "used")}
    if by_priority:
        allocation["replay/priorities"] = 4 * sizes.slots * num_worlds
    return Source(
        spec=replayed_from(spec, config.n_step),
        init=init,
        next=advance,
        observe=observe,
        pure=collector.pure,
        steps_per_batch=collector.steps_per_batch,
        initial_steps=rounds * collector.steps_per_batch,
        allocation=allocation,
        metrics=metrics,
        close=collector.close,
    )
