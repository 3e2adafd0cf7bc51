"""Many small arrays as one row per dtype, so that storing or fetching them is one scatter or gather each."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.ops.paths import flatten_names
from jaxrl.types import Array, Spec

Rows = dict[str, Array]  # by dtype: [..., width]


class Packing(NamedTuple):
    """`pack` takes arrays by name, each [..., *shape of its spec]; `unpack` is its inverse."""

    widths: dict[str, int]  # by dtype
    pack: Callable[[dict[str, Array]], Rows]
    unpack: Callable[[Rows], dict[str, Array]]


def packing(spec: Spec) -> Packing:
    """Of the arrays that `spec` names, whose shapes hold no free axis."""
    names: dict[str, list[str]] = {}
    for name in sorted(spec):
        names.setdefault(spec[name].dtype, []).append(name)
    shapes = {name: tuple(int(n) for n in part.shape) for name, part in spec.items()}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    ends = {dtype: np.cumsum([sizes[name] for name in group])[:-1].tolist() for dtype, group in names.items()}

    def flat(x: Array, shape: tuple[int, ...]) -> Array:
        return x.reshape(*x.shape[: x.ndim - len(shape)], -1)

    def pack(arrays: dict[str, Array]) -> Rows:
        return {dtype: jnp.concatenate([flat(arrays[n], shapes[n]) for n in group], -1) for dtype, group in names.items()}

    def unpack(rows: Rows) -> dict[str, Array]:
        parts = {n: x for dtype, group in names.items() for n, x in zip(group, jnp.split(rows[dtype], ends[dtype], -1), strict=True)}
        return {name: parts[name].reshape(*parts[name].shape[:-1], *shapes[name]) for name in spec}

    widths = {dtype: sum(sizes[name] for name in group) for dtype, group in names.items()}
    return Packing(widths, pack, unpack)


def nbytes(tree: object) -> int:
    """Of all arrays of a tree, or of their shapes."""
    return sum(
        math.prod(x.shape) * x.dtype.itemsize
        for x in flatten_names(tree).values()
        if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended)
    )
