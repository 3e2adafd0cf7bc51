"""Batches for off-policy methods from a memory of what a policy did, on the device.

Each batch begins with an unroll of the collector, which goes into a ring (`ring.py`); then steps are drawn from all that is there.
"""

from dataclasses import dataclass

from jax.sharding import Mesh

from jaxrl.ops.specs import with_axes
from jaxrl.replay._collected import Memory, collected
from jaxrl.replay.reward_scale import reward_scale
from jaxrl.replay.ring import Followed, Ring, Steps, ring
from jaxrl.replay.store import Chosen, parts, sizes_for, store
from jaxrl.types import Array, ArraySpec, Replayed, Source, Spec


@dataclass(frozen=True)
class Config:
    """`capacity` counts steps of all worlds; each end of an episode takes the place of one.

    `initial_steps` are made by the filler before the first batch. A batch holds `num_updates` times `batch_size` steps. `priority_exponent`
    0 draws all steps alike; `importance_exponent` 1 makes up for priorities in full (Schaul et al. 2016,
    https://arxiv.org/abs/1511.05952, section 3.4). `maximum_return`, if it is not 0, has the rewards of a batch divided so that returns
    discounted by `gamma` vary by about 1 and stay below it (`reward_scale`).
    """

    capacity: int = 1_000_000
    batch_size: int = 256
    num_updates: int = 1
    n_step: int = 1
    initial_steps: int = 5000
    priority_exponent: float = 0.0
    importance_exponent: float = 0.4
    maximum_return: float = 0.0
    gamma: float = 0.99

    def __post_init__(self) -> None:
        for name in ("capacity", "batch_size", "num_updates", "n_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for name in ("initial_steps", "priority_exponent", "importance_exponent", "maximum_return"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")
        if self.initial_steps > self.capacity:
            raise ValueError(
                f"initial_steps is {self.initial_steps:,}, more than the capacity of {self.capacity:,}: the first would be lost"
            )
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}, but must lie between 0 and 1")


def replayed_from(spec: Spec, config: Config) -> dict[str, ArraySpec]:
    """The spec of `Replayed` batches made of transitions `[time, world]` of `spec`."""
    kept = {name: part for name, part in spec.items() if name not in ("reward", "truncation", "discount")}
    fields = parts(kept, "") | {"reward": ArraySpec((config.n_step,)), "steps": ArraySpec((), "int32")}
    return with_axes(fields | {name: ArraySpec(()) for name in ("discount", "weight")}, (config.num_updates, config.batch_size))


def replay(config: Config, collector: Source, num_worlds: int, filler: Source | None = None, mesh: Mesh | None = None) -> Source:
    """A source of `Replayed` steps `[num_updates, batch_size]`, drawn from the last `capacity` steps of `collector`.

    `collector` and `filler` are sources of `Transition`s `[T, num_worlds]` of one spec; the filler makes the first steps, as a policy that
    acts at random does, and without one they are the collector's. `observe` takes `{"priority": [updates, batch]}` where there are
    priorities. On a mesh each device keeps the steps of its own worlds; but for priorities, batches do not depend on the number of devices.

    Raises:
        ValueError: the numbers do not divide, or the ring does not hold an unroll.
    """
    sizes = sizes_for(config.capacity, config.batch_size, collector, num_worlds, mesh)
    spec = collector.spec
    memory = ring(parts(spec, "observation/"), {"action": parts(spec, "action")[""]}, parts(spec, "extras/"))
    chosen = Chosen(config.num_updates, config.batch_size, config.priority_exponent, config.importance_exponent)

    def fetch(state: Ring, at: Steps) -> Followed:
        return memory.follow(state, at, config.n_step)

    def batch(found: Followed, weight: Array, divisor: Array | None) -> Replayed:
        reward = found.reward if divisor is None else found.reward / divisor
        return Replayed(**found._replace(reward=reward)._asdict(), weight=weight)

    scaling = reward_scale(config.gamma, config.maximum_return) if config.maximum_return else None
    kept = Memory(store(memory, fetch, chosen, sizes, mesh), chosen, scaling, replayed_from(spec, config), batch)
    return collected(kept, config.initial_steps, num_worlds, collector, filler)
