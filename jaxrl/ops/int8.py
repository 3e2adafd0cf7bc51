"""Kernels of whole numbers of 8 bits and a scale for each output, for policies that only act.

A kernel [..., inputs, outputs] becomes {"int8": [..., inputs, outputs], "scale": [..., outputs]}, symmetric about 0. Layers of
`networks/transformer` multiply by the one and then by the other, so that no kernel of another type is ever kept.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.ops import low_rank
from jaxrl.ops.paths import check_patterns, flatten_names, map_with_path
from jaxrl.types import Array, Params


def rounded(kernel: Array, bits: int = 8) -> dict[str, Array]:
    """The nearest of what so many bits can say; the largest weight of an output is the largest number."""
    kernel, most = kernel.astype(jnp.float32), 2 ** (bits - 1) - 1
    largest = jnp.abs(kernel).max(-2)
    scale = jnp.where(largest > 0, largest, 1.0) / most
    return {"int8": jnp.round(kernel / scale[..., None, :]).astype(jnp.int8), "scale": scale}


_rounded = jax.jit(rounded, static_argnames="bits")  # kernel by kernel, so that what stays is not copied


def quantised(params: Params, patterns: tuple[str, ...] = (), bits: int = 8) -> Params:
    """`params` with kernels `rounded` whose paths one of `patterns` is found in, by default all that can be: those of transformers' layers.

    Fewer `bits` than 8 take as much memory, and tell what rounding costs.

    Raises:
        ValueError: a pattern matches nothing, or what no layer could multiply by; there is no such kernel; or bits are not 2 to 8.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"int8: bits is {bits}, but must be 2 to 8")
    leaves = flatten_names(params)
    able = {path for path in leaves if low_rank.of_layer(path, leaves)}
    if not able:
        raise ValueError(f"int8: there is no kernel of a layer of networks/transformer; there are {', '.join(leaves)}")
    check_patterns(patterns, params, "int8")
    chosen = {path for path in leaves if any(re.search(pattern, path) for pattern in patterns)} if patterns else able
    if odd := sorted(chosen - able):
        raise ValueError(f"int8: {odd[0]} is no kernel of a layer of networks/transformer, which alone can be rounded; leave it out")
    return map_with_path(lambda path, leaf: _rounded(leaf, bits) if path in chosen else leaf, params)


def size(params: Params) -> int:
    """Bytes that it takes."""
    leaves: list[Any] = jax.tree.leaves(params)
    return sum(leaf.nbytes for leaf in leaves)
