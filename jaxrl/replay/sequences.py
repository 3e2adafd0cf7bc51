"""Sequences of steps from a memory of what a policy did, on the device: for methods whose networks remember.

As `replay`, but what is drawn is a step with those that came after it.
"""

from dataclasses import dataclass
from typing import NamedTuple

from jax.sharding import Mesh

from jaxrl.ops.specs import with_axes
from jaxrl.replay._collected import Memory, collected
from jaxrl.replay.ring import Ring, Steps, ring
from jaxrl.replay.store import Chosen, parts, sizes_for, store
from jaxrl.types import Array, ArraySpec, Source, Transition


@dataclass(frozen=True)
class Config:
    """`capacity` counts steps of all worlds; each end of an episode takes the place of one. `length` is that of a sequence."""

    capacity: int = 1_000_000
    batch_size: int = 16
    num_updates: int = 1
    length: int = 64
    initial_steps: int = 5000

    def __post_init__(self) -> None:
        for name in ("capacity", "batch_size", "num_updates", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.initial_steps < 0:
            raise ValueError(f"initial_steps is {self.initial_steps}, but must not be negative")
        if self.initial_steps > self.capacity:
            raise ValueError(
                f"initial_steps is {self.initial_steps:,}, more than the capacity of {self.capacity:,}: the first would be lost"
            )


class Sequences(NamedTuple):
    """Steps in a row of one episode, `[updates, batch, length, ...]`."""

    steps: Transition
    begins: Array  # [updates, batch, length] 1 at an episode's first step, 0 elsewhere
    mask: Array  # [updates, batch, length] 0 behind the last step of the episode, or the newest one


def sequences(config: Config, collector: Source, num_worlds: int, filler: Source | None = None, mesh: Mesh | None = None) -> Source:
    """A source of `Sequences`, each of which begins with any of the last `capacity` steps of `collector`; the rest as for `replay`.

    Raises:
        ValueError: the numbers do not divide, or the ring does not hold an unroll or a sequence.
    """
    sizes = sizes_for(config.capacity, config.batch_size, collector, num_worlds, mesh)
    if config.length >= sizes.slots:
        raise ValueError(
            f"length is {config.length}, but capacity {config.capacity:,} keeps {sizes.slots - 1} steps of each of {num_worlds} worlds; "
            f"use a capacity of at least {config.length * num_worlds:,}"
        )
    spec = collector.spec
    memory = ring(parts(spec, "observation/"), {"action": parts(spec, "action")[""]}, parts(spec, "extras/"))
    chosen = Chosen(config.num_updates, config.batch_size)

    def fetch(state: Ring, at: Steps) -> tuple[Transition, Array, Array]:
        steps, mask = memory.sequence(state, at, config.length)
        return steps, memory.begins(state, at, config.length), mask

    def batch(found: tuple[Transition, Array, Array], weight: Array, divisor: Array | None) -> Sequences:
        del weight, divisor
        return Sequences(*found)

    shown = {f"steps/{name}": part for name, part in parts(spec, "").items()} | {name: ArraySpec(()) for name in ("begins", "mask")}
    axes = (config.num_updates, config.batch_size, config.length)
    kept = Memory(store(memory, fetch, chosen, sizes, mesh), chosen, None, with_axes(shown, axes), batch)
    return collected(kept, config.initial_steps, num_worlds, collector, filler)
