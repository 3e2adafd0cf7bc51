"""A ring on one device or shared out over a mesh, with what is drawn from it: what the sources of remembered steps have in common."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxrl.replay import draws
from jaxrl.replay.ring import Ring, RingOf, Steps
from jaxrl.types import Array, ArraySpec, Key, PyTree, Source, Spec, Transition


class Priorities(NamedTuple):
    value: Array  # [C, B], the exponent taken already; 0 where there is no step
    largest: Array  # [] of all that algorithms have reported, without the exponent


class Chosen(NamedTuple):
    """How steps are drawn: `updates` times `batch` of them. An `exponent` of 0 draws all alike."""

    updates: int
    batch: int
    exponent: float = 0.0
    importance: float = 0.0


class Sizes(NamedTuple):
    worlds: int  # on each device
    slots: int
    devices: int


class Store(NamedTuple):
    """The functions of a ring with priorities, which are `()` where all steps are drawn alike."""

    init: Callable[[], tuple[Ring, Any]]
    write: Callable[[Ring, Any, Transition], tuple[Ring, Any]]
    draw: Callable[[Ring, Any, Key], tuple[Steps, PyTree, Array]]  # -> where they are, what `fetch` finds there, weights [updates, batch]
    report: Callable[[Steps, Any, Array], Any]  # (drawn, priorities, new ones [updates, batch]) -> priorities


def parts(spec: Spec, prefix: str) -> dict[str, ArraySpec]:
    """The arrays of a transition spec behind `prefix`, without its axes of time and worlds."""
    found = {name.removeprefix(prefix): part for name, part in spec.items() if name.startswith(prefix)}
    return {name: ArraySpec(part.shape[2:], part.dtype, part.names, part.unit, part.low, part.high) for name, part in found.items()}


def sizes_for(capacity: int, batch: int, collector: Source, worlds: int, mesh: Mesh | None) -> Sizes:
    """Of a ring for `capacity` steps of all worlds.

    Raises:
        ValueError: it does not hold an unroll, or the devices do not divide worlds or batch.
    """
    devices = 1 if mesh is None else mesh.shape["data"]
    unroll = collector.steps_per_batch // worlds
    slots = -(-capacity // worlds) + 1  # one for the newest observation
    if slots < 2 * unroll + 2:
        raise ValueError(
            f"capacity is {capacity:,} steps, {slots - 1} for each of {worlds} worlds, but an unroll of {unroll} steps needs room "
            f"for {2 * unroll + 1}; use at least {worlds * (2 * unroll + 1):,}"
        )
    for name, size in (("num_worlds", worlds), ("batch_size", batch)):
        if size % devices:
            raise ValueError(f"{name} is {size}, which {devices} devices on the mesh axis `data` do not divide")
    return Sizes(worlds // devices, slots, devices)


def store(memory: RingOf, fetch: Callable[[Ring, Steps], PyTree], chosen: Chosen, sizes: Sizes, mesh: Mesh | None) -> Store:
    """On a mesh each device keeps and draws the steps of its own worlds; but for priorities, draws do not depend on their number."""
    by_priority = chosen.exponent > 0

    def everywhere(x: Array, reduce: Any) -> Array:
        return x if mesh is None else reduce(x, "data")

    def init() -> tuple[Ring, Any]:
        empty = memory.init(sizes.slots, sizes.worlds)
        return empty, Priorities(jnp.zeros(empty.is_step.shape), jnp.ones(())) if by_priority else ()

    def write(state: Ring, priorities: Any, batch: Transition) -> tuple[Ring, Any]:
        later = memory.write(state, batch)
        if by_priority:
            # What is new: the steps between the heads.
            written = ((later.head - state.head) % sizes.slots)[None]
            new = (jnp.arange(sizes.slots)[:, None] - state.head[None]) % sizes.slots < written
            value = jnp.where(new, jnp.power(priorities.largest, chosen.exponent), priorities.value)
            priorities = priorities._replace(value=jnp.where(later.is_step, value, 0.0))
        return later, priorities

    def draw(state: Ring, priorities: Any, key: Key) -> tuple[Steps, PyTree, Array]:
        share = chosen.batch // sizes.devices
        first = jnp.int32(0) if mesh is None else jax.lax.axis_index("data") * share
        if by_priority:
            at, probability = draws.prioritised(state, priorities.value, key, chosen.updates, chosen.batch, first, sizes.devices)
            # Equation 2 of section 3.4, divided by its largest in each batch, so the number of steps drops out.
            weight = jnp.power(probability, -chosen.importance)
            weight = weight / everywhere(weight.max(-1, keepdims=True), jax.lax.pmax)
        else:
            most = everywhere(state.used.max(), jax.lax.pmax)
            at = draws.uniform(state, key, chosen.updates, chosen.batch, first, sizes.devices, most)
            weight = jnp.ones((chosen.updates, share))
        return at, fetch(state, at), weight

    def report(drawn: Steps, priorities: Priorities, priority: Array) -> Priorities:
        largest = jnp.maximum(priorities.largest, everywhere(priority.max(), jax.lax.pmax))
        # A step that was drawn several times gets the largest of its priorities: which one is set last would be left to the device.
        at = priorities.value.at[drawn.slot, drawn.world].set(0.0).at[drawn.slot, drawn.world]
        return Priorities(at.max(jnp.power(priority + 1e-6, chosen.exponent)), largest)

    if mesh is None:
        return Store(init, write, draw, report)
    data: Any = PartitionSpec("data")
    rows: Any = PartitionSpec(None, "data")
    none: Any = PartitionSpec()
    rings: Any = Ring(rows, rows, rows, rows, data, data)
    known: Any = Priorities(rows, none) if by_priority else ()
    on: Any = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)
    return Store(
        init=on(init, in_specs=(), out_specs=(rings, known)),
        write=on(write, in_specs=(rings, known, rows), out_specs=(rings, known)),
        draw=on(draw, in_specs=(rings, known, none), out_specs=(rows, rows, rows)),
        report=on(report, in_specs=(rows, known, rows), out_specs=known),
    )
