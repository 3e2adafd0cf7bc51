"""Rows of trees: every leaf has a leading axis `[B]`, one row per world."""

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
    rows = [jnp.isfinite(jnp.reshape(leaf, (leaf.shape[0], -1)).sum(1)) for leaf in floats]
    return jnp.stack(rows).all(0)
