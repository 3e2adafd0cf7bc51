"""Batches for off-policy methods from recorded episodes, such as those of an expert."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrl.ops.packing import Rows, packing
from jaxrl.ops.specs import with_axes
from jaxrl.replay.memory import LARGEST
from jaxrl.replay.recording import Recording, check
from jaxrl.replay.ring import Ring, Steps, ring
from jaxrl.types import Array, ArraySpec, Key, Params, PyTree, Replayed, Source, Spec


@dataclass(frozen=True)
class Config:
    """Each update gets `batch_size` recorded steps."""

    batch_size: int = 128

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}, but must be at least 1")


def _rows(spec: Spec, arrays: dict[str, Any]) -> Rows:
    """[C, 1, width]"""
    return {dtype: rows[:, None] for dtype, rows in packing(spec).pack({name: jnp.asarray(x) for name, x in arrays.items()}).items()}


def _as_ring(recording: Recording) -> tuple[Ring, np.ndarray]:
    """The recording as a ring of one world, each episode's last observation in a row of its own; and the slots of the steps [N]."""
    ends = recording.episode_ends
    steps, episodes = int(ends[-1]), len(ends)
    slots = np.arange(steps) + np.repeat(np.arange(episodes), np.diff(ends, prepend=0))
    last = ends + np.arange(episodes)  # the rows behind the episodes
    count = steps + episodes + 1  # and the head, where nothing is

    def spread(array: np.ndarray, final: np.ndarray | None = None) -> np.ndarray:
        rows = np.zeros((count, *array.shape[1:]), array.dtype)
        rows[slots] = array
        if final is not None:
            rows[last] = final
        return rows

    discount = np.ones(steps, np.float32)
    discount[ends - 1] = 1.0 - np.asarray(recording.terminated, np.float32)
    seen = {name: spread(array, recording.final_observation[name]) for name, array in recording.observation.items()}
    return Ring(
        observation=_rows(recording.spec.observation, seen),
        taken=_rows({"action": recording.spec.action}, {"action": spread(recording.action)}),
        outcome=jnp.asarray(spread(np.stack([recording.reward, discount], -1)))[:, None],
        is_step=jnp.asarray(spread(np.ones(steps, bool)))[:, None],
        head=jnp.full(1, count - 1, jnp.int32),
        used=jnp.full(1, count, jnp.int32),
    ), slots


def demonstrations(config: Config, recording: Recording, num_updates: int = 1, n_step: int = 1, mesh: Mesh | None = None) -> Source:
    """A source of `Replayed` steps `[num_updates, batch_size]`, all those of the recording as likely, for a `mixture` with a `replay`.

    The data are constants of the compiled program, so they are neither copied for each seed nor saved in checkpoints.

    Raises:
        ValueError: the recording is faulty or too large, or does not tell how its episodes ended; the numbers do not divide.
    """
    check(recording, "demonstrations")
    if recording.terminated is None:
        raise ValueError("demonstrations: the recording does not tell how its episodes ended; record it again with `jaxrl eval --record`")
    if mesh is not None and config.batch_size % mesh.shape["data"]:
        raise ValueError(f"batch_size is {config.batch_size}, which {mesh.shape['data']} devices on the mesh axis `data` do not divide")
    spec = recording.spec
    stored, numbered = _as_ring(recording)
    size = sum(array.nbytes for array in jax.tree.leaves(stored))
    if size > LARGEST:
        raise ValueError(f"demonstrations: {size} bytes are more than a compiled program may hold, {LARGEST}; record fewer episodes")
    slots = jnp.asarray(numbered, jnp.int32)
    memory = ring(spec.observation, {"action": spec.action}, {})

    def init(key: Key, behaviour: Params) -> PyTree:
        del key, behaviour
        return ()

    def advance(state: PyTree, behaviour: Params, key: Key) -> tuple[PyTree, Replayed]:
        del behaviour
        index = jax.random.randint(key, (num_updates, config.batch_size), 0, len(slots))
        at: Array = slots[index]
        found = memory.follow(stored, Steps(at, jnp.zeros_like(at)), n_step)
        batch = Replayed(**found._asdict(), weight=jnp.ones(at.shape))
        if mesh is not None:
            batch = jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec(None, "data")))
        return state, batch

    fields = {"action": spec.action, "reward": ArraySpec((n_step,)), "steps": ArraySpec((), "int32")}
    fields |= {name: ArraySpec(()) for name in ("discount", "weight")}
    for prefix in ("observation/", "next_observation/"):
        fields |= with_axes(spec.observation, (), prefix)
    return Source(with_axes(fields, (num_updates, config.batch_size)), init, advance)
