"""Rows of trees: every leaf has a leading axis `[B]`, one row per world."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Key, PyTree


def world_keys(key: Key, index: Array) -> Key:
    """One key per world, [B]; `index` [B] holds their global numbers, so a key does not depend on which rows are together."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def where_rows(rows: Array, new: PyTree, old: PyTree) -> PyTree:
    """`new` in the rows [B] that are true, `old` elsewhere."""
    return jax.tree.map(lambda a, b: jnp.where(jnp.reshape(rows, (-1,) + (1,) * (a.ndim - 1)), a, b), new, old)


def finite_rows(tree: PyTree) -> Array:
    """[B] bool: rows without NaN or infinity in any floating-point leaf, of which there is at least one."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    sums = [jnp.reshape(leaf, (leaf.shape[0], -1)).sum(1) for leaf in floats]
    # A reduction, which XLA works out once: of a plain sum it would copy all that leads there into every array that depends on the answer.
    # The absolute value keeps it from taking the reduction apart.
    return jnp.isfinite(jnp.abs(jnp.stack(sums)).sum(0))


def by_rows(run: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """A function of one world from one of rows [n, ...], which gets all rows of a `vmap`, nested ones too, in one call.

    For what must know the number of rows: it is that of the array that `run` is given, a constant. No shape of the result may depend
    on it but by its leading axis.
    """
    flat = jax.custom_batching.custom_vmap(run)

    @flat.def_vmap
    def all_rows(size: int, batched: Any, *given: Any) -> tuple[PyTree, Any]:
        whole = jax.tree.map(lambda x, is_batched: x if is_batched else jnp.broadcast_to(x, (size, *x.shape)), given, tuple(batched))
        out = flat(*jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), whole))
        return jax.tree.map(lambda x: x.reshape(size, x.shape[0] // size, *x.shape[1:]), out), jax.tree.map(lambda x: True, out)

    def one(*given: Any) -> PyTree:
        return jax.tree.map(lambda x: x[0], flat(*jax.tree.map(lambda x: jnp.asarray(x)[None], given)))

    return one
