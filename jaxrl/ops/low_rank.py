"""Kernels that learn by what is added to them, a product of two thin matrices (LoRA, Hu et al. 2022, https://arxiv.org/abs/2106.09685).

A network knows nothing of it: it is given the sum. In a kernel's place, trees of parameters have the kernel itself (the base), or a dict
of its factors.
"""

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.ops.paths import check_patterns, flatten_names
from jaxrl.types import Array, Key, Params

_APART = re.compile(r"(?<=layers/)(query|key|value|output|gate|up|down)/kernel$")
_VECTORS = re.compile(r"(^|/)(bias|scale)$")  # also where they are stacked by layers


@dataclass(frozen=True)
class LowRank:
    """A kernel gets `alpha` / `rank` times a product of rank `rank`.

    A kernel is [stacked axes, input axes, output axes], each part any number of them. By default its last two axes are inputs and outputs,
    and all before are `stacked`: each of these slices has factors of its own. [inputs, heads, size] has `stacked` 0, and what makes of
    heads and sizes outputs has `stacked` 0 and `inputs` 2.

    Those that are `apart` go into the network beside their base, which multiplies by each on its own: less work and memory, since nobody
    asks for the gradient of a sum. Layers of `networks/transformer` can do that.
    """

    rank: int = 16
    alpha: float = 16.0
    stacked: int | None = None
    inputs: int = 1
    apart: bool = False

    def __post_init__(self) -> None:
        for name, least in (("rank", 1), ("stacked", 0), ("inputs", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, but must be at least {least}")

    def parts(self, path: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Stacked, input and output axes of a kernel. Raises ValueError where it has none of these, or is too small."""
        stacked = max(len(shape) - 1 - self.inputs, 0) if self.stacked is None else self.stacked
        parts = shape[:stacked], shape[stacked : stacked + self.inputs], shape[stacked + self.inputs :]
        if _VECTORS.search(path) or not parts[1] or not parts[2]:
            told = f"{path} {shape} is no kernel with {stacked} stacked and {self.inputs} input axes and outputs behind them"
            raise ValueError(f"lora: {told}; let the pattern match kernels alone")
        if self.rank > (small := min(math.prod(parts[1]), math.prod(parts[2]))):
            raise ValueError(f"lora: rank is {self.rank}, but {path} {shape} has the rank {small} itself; take a smaller one")
        return parts


Table = Mapping[str, LowRank]  # by regular expressions over paths, of which the first that matches counts


def of_layer(path: str, leaves: Mapping[str, Any]) -> bool:
    """Whether it is a kernel of a layer of networks/transformer, which takes others than arrays: layers of other kinds have no gate."""
    return bool(_APART.search(path)) and _APART.sub("gate/kernel", path) in leaves


def found(table: Table, path: str) -> LowRank | None:
    """What the table says of a parameter."""
    return next((one for pattern, one in table.items() if re.search(pattern, path)), None)


def chosen(table: Table, params: Params, frozen: tuple[str, ...] = ()) -> list[str]:
    """The paths of the kernels that the table chooses.

    Raises:
        ValueError: a pattern matches nothing, or what is no kernel, or is `frozen` too.
    """
    check_patterns(tuple(table), params, "lora")
    paths, leaves = [], flatten_names(params)
    for path, leaf in leaves.items():
        if (one := found(table, path)) is not None:
            parts = one.parts(path, leaf.shape)
            if one.apart and (len(parts[1] + parts[2]) > 2 or not of_layer(path, leaves)):
                raise ValueError(f"lora: {path} {leaf.shape} cannot be apart, as kernels of layers of networks/transformer; leave it out")
            if shut := [pattern for pattern in frozen if re.search(pattern, path)]:
                raise ValueError(
                    f"{path} is frozen by {shut[0]!r}, and chosen by lora, which freezes it itself; let one of the two leave it out"
                )
            paths.append(path)
    return paths


def factors(table: Table, key: Key, bases: Mapping[str, Any], prefix: str = "") -> Params:
    """Of a nested dict of kernels, for each {"a": [stacked, inputs, rank], "b": [stacked, rank, outputs]}, whose product is 0 at first.

    What is drawn for a kernel depends on its path, and on no other kernel.
    """
    made: Params = {}
    for name, node in bases.items():
        path = f"{prefix}{name}"
        if isinstance(node, Mapping):
            made[name] = factors(table, key, node, f"{path}/")
            continue
        one = found(table, path)
        assert one is not None
        stacked, inputs, outputs = one.parts(path, node.shape)
        own = jax.random.fold_in(key, zlib.crc32(path.encode()))
        a = jax.random.normal(own, (*stacked, *inputs, one.rank)) * math.prod(inputs) ** -0.5
        made[name] = {"a": a, "b": jnp.zeros((*stacked, one.rank, *outputs))}
    return made


def _sum(one: LowRank, path: str, base: Array, a: Array, b: Array) -> Array:
    stacked, inputs, outputs = one.parts(path, base.shape)
    flat = a.reshape(*stacked, math.prod(inputs), one.rank) @ b.reshape(*stacked, one.rank, math.prod(outputs))
    return base + (one.alpha / one.rank * flat).reshape(base.shape)


def merged(table: Table, bases: Mapping[str, Any], params: Mapping[str, Any], apart: bool = False, prefix: str = "") -> Params:
    """`paths.merge` of both, in which a kernel of `bases` whose factors `params` holds is the sum; in the wider of their types.

    With `apart` kernels that are so in the table are {"base": ..., "a": ..., "b": ...}, whose product needs no factor any more.
    """
    whole = dict(bases)
    for name, node in params.items():
        path, base = f"{prefix}{name}", whole.get(name)
        if not isinstance(node, Mapping) or base is None:
            whole[name] = node
        elif isinstance(base, Mapping):
            whole[name] = merged(table, base, node, apart, f"{path}/")
        elif (one := found(table, path)) is not None:
            beside = {"base": base, "a": node["a"], "b": one.alpha / one.rank * node["b"]}
            whole[name] = beside if apart and one.apart else _sum(one, path, base, **node)
        else:
            raise ValueError(f"{path}: is a parameter in one of two trees, and a part in the other: {', '.join(node)}")
    return whole
