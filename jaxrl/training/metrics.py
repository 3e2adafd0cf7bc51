"""Metrics on their way from the device to people, and the watch for numbers that are none."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.ops.paths import flatten_names
from jaxrl.training.checkpoint import open_checkpoints
from jaxrl.types import Metrics, PyTree

# Means over finished episodes; NaN says that none has finished yet.
MAY_BE_MISSING = "episode/"


class NonFinite(FloatingPointError):
    """A metric was NaN or infinite; the message names it, the update and the saved state."""


def to_host(metrics: Metrics) -> dict[str, float]:
    """Metrics as floats, in one transfer: scalars [] by name.

    With a leading axis of seeds, [num_seeds], each name gives the mean over them, and `<name>/seed_<i>` the value of each.

    Raises:
        ValueError: a metric has more axes than that.
    """
    host: dict[str, float] = {}
    for name, value in jax.device_get(metrics).items():
        value = np.asarray(value, np.float64)
        if value.ndim > 1:
            raise ValueError(f"metric {name} has the shape {value.shape}; a metric is one number, or one per seed")
        host[name] = float(value.mean())
        if value.ndim == 1:
            host |= {f"{name}/seed_{seed}": float(one) for seed, one in enumerate(value)}
    return host


def non_finite_leaves(tree: PyTree) -> list[str]:
    """The flat names of the leaves that hold a NaN or an infinity. Transfers the tree."""
    floats = {name: leaf for name, leaf in flatten_names(tree).items() if jnp.issubdtype(leaf.dtype, jnp.inexact)}
    return [name for name, leaf in floats.items() if not all(np.isfinite(part).all() for part in _local(leaf))]


def _local(leaf: Any) -> list[np.ndarray]:
    """What this process holds of an array, as float32 or wider: numpy knows no finiteness of the short types."""
    parts = [shard.data for shard in leaf.addressable_shards] if isinstance(leaf, jax.Array) else [leaf]
    return [array if array.dtype.kind in "fc" else array.astype(np.float32) for array in map(np.asarray, parts)]


def check_finite(
    metrics: Mapping[str, float], update: int, directory: Path | None = None, state: Mapping[str, PyTree] | None = None
) -> None:
    """Raises NonFinite where a metric is NaN or infinite, after saving `state` to `directory` for a look at it.

    Means over finished episodes may be NaN: until one has finished there is nothing to average.
    """
    bad = {
        name: value
        for name, value in metrics.items()
        if not math.isfinite(value) and not (math.isnan(value) and name.startswith(MAY_BE_MISSING))
    }
    if not bad:
        return
    named = ", ".join(f"{name} is {value}" for name, value in list(bad.items())[:6])
    more = f" and {len(bad) - 6} more" if len(bad) > 6 else ""
    message = f"not finite at update {update}: {named}{more}"
    if state is not None:
        leaves = non_finite_leaves(state)
        shown = ", ".join(leaves[:6]) + (f" and {len(leaves) - 6} more" if len(leaves) > 6 else "")
        message += f"; not finite in the state: {shown or 'nothing'}"
        if directory is not None:
            message += f"; {_save_state(directory, update, state, metrics)}"
    raise NonFinite(message)


def _save_state(directory: Path, update: int, state: Mapping[str, PyTree], metrics: Mapping[str, float]) -> str:
    """Where the state went, or why it could not go there, in words."""
    try:
        checkpoints = open_checkpoints(directory, keep_last=1, keep_best=0)
        checkpoints.drop_after(update - 1)  # of an earlier fault at this update
        checkpoints.save(update, state, {"update": update, "metrics": {name: repr(value) for name, value in metrics.items()}})
        checkpoints.close()
    except OSError as error:
        return f"the state could not be saved: {error.strerror or error}"
    return f"the state is in {directory / str(update)}"
