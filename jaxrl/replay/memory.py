"""Batches of action chunks from recorded episodes that fit into device memory."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrl.ops.placement import check_rows, row_axes
from jaxrl.ops.specs import with_axes
from jaxrl.replay.recording import Part, Recording, check, part_of
from jaxrl.types import Array, ArraySpec, Key, Metrics, Params, Source

LARGEST = 2**30  # bytes


@dataclass(frozen=True)
class Config:
    """`horizon` is the number of actions in a chunk. What is learnt scales each number of the data by `scale`: its deviation is 1
    ("z_score"), or it lies in [-1, 1] ("bounds"). A share `validation` of the episodes is held out; `part` says which are drawn from.

    Dimensions of the action that never change are refused in training, unless `constant_actions` says that they are to be held.
    """

    batch_size: int = 256
    horizon: int = 1
    scale: Literal["z_score", "bounds"] = "z_score"
    validation: float = 0.0
    part: Part = "train"
    constant_actions: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "horizon"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation is {self.validation}, but must be at least 0 and below 1")


class MemoryState(NamedTuple):
    """What a checkpoint keeps of the source; the data are no part of it."""

    batches: Array  # [] int32, number drawn


def memory(config: Config, recording: Recording, mesh: Mesh | None = None) -> Source:
    """Draws steps evenly, with replacement, each with the chunk of actions that begins there: what is drawn depends on the key alone.

    A batch is `observation` `{name: [B, ...]}`, `action` `[B, horizon, A]`, `mask` `[B, horizon, A]`. No chunk crosses an episode's end:
    there its last action is repeated and masked. On a mesh the batch is shared out over its rows, and does not depend on the
    number of devices. The data are constants of the compiled program, so they are neither copied for each seed nor saved in checkpoints.

    Raises:
        ValueError: the recording is faulty or too large, its episodes are all shorter than a chunk, or the numbers do not divide.
    """
    check(recording, "memory")
    longest = int(np.diff(recording.episode_ends, prepend=0).max())
    if config.horizon > longest:
        raise ValueError(f"horizon is {config.horizon}, but the longest episode has {longest} steps; take shorter chunks")
    recording = part_of(recording, config.part, config.validation)
    if mesh is not None:
        check_rows(config.batch_size, mesh)
    stored: dict[str, Any] = {"observation": recording.observation, "action": recording.action}
    size = sum(array.nbytes for array in jax.tree.leaves(stored))
    if size > LARGEST:
        raise ValueError(f"memory: the recording has {size} bytes, more than a compiled program may hold, {LARGEST}; record fewer episodes")
    stored = jax.tree.map(jnp.asarray, stored)
    steps = len(recording.action)
    # The end of the episode that each row belongs to.
    ends = jnp.asarray(np.repeat(recording.episode_ends, np.diff(recording.episode_ends, prepend=0)), jnp.int32)

    def init(key: Key, behaviour: Params) -> MemoryState:
        del key, behaviour
        return MemoryState(jnp.zeros((), jnp.int32))

    def advance(state: MemoryState, behaviour: Params, key: Key) -> tuple[MemoryState, dict[str, Any]]:
        del behaviour
        start = jax.random.randint(key, (config.batch_size,), 0, steps)
        rows = start[:, None] + jnp.arange(config.horizon)[None]
        end = ends[start][:, None]
        batch = {
            "observation": {name: array[start] for name, array in stored["observation"].items()},
            "action": stored["action"][jnp.minimum(rows, end - 1)],
            "mask": jnp.broadcast_to((rows < end).astype(jnp.float32)[:, :, None], (*rows.shape, stored["action"].shape[-1])),
        }
        if mesh is not None:
            batch = jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec(row_axes(mesh))))
        return MemoryState(state.batches + 1), batch

    def metrics(state: MemoryState) -> Metrics:
        return {"data/epochs": state.batches.astype(jnp.float32) * (config.batch_size / steps)}

    chunk = {"action": recording.spec.action, "mask": ArraySpec(recording.spec.action.shape)}
    spec = with_axes(recording.spec.observation, ("batch",), "observation/") | with_axes(chunk, ("batch", config.horizon))
    return Source(spec, init, advance, metrics=metrics)
