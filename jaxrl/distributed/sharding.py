"""Which part of a train state lies on which device: rules over the paths of parameters, worked out before anything is allocated."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrl.distributed.mesh import Config
from jaxrl.ops.paths import check_patterns, flatten_names, map_with_path
from jaxrl.types import PyTree, TrainState

Axes = tuple[str | None, ...]  # of the mesh, one for each axis of an array


def _by_rule(config: Config, sizes: Mapping[str, int], path: str, shape: tuple[int, ...]) -> Axes | None:
    """What the first rule that matches says; None where none does."""
    rule = next((rule for rule in config.rules if re.search(rule.pattern, path)), None)
    if rule is None:
        return None
    if len(rule.axes) > len(shape):
        raise ValueError(
            f"mesh.rules: {rule.pattern!r} names {len(rule.axes)} axes, but {path} has the shape {shape}; give it another rule"
        )
    axes = (None,) * (len(shape) - len(rule.axes)) + tuple(axis or None for axis in rule.axes)
    for axis, length in zip(axes, shape, strict=True):
        if axis is not None and length % sizes[axis]:
            told = f"{axis}, {sizes[axis]} devices, which do not divide {length} of {path} {shape}"
            raise ValueError(f"mesh.rules: {rule.pattern!r} lays it over {told}; give it another rule")
    return tuple(axis if axis and sizes[axis] > 1 else None for axis in axes)


def _by_size(config: Config, sizes: Mapping[str, int], shape: tuple[int, ...]) -> Axes:
    """The longest axis, the last of equals, over `fsdp`."""
    fits = [(length, place) for place, length in enumerate(shape) if length % sizes["fsdp"] == 0]
    if sizes["fsdp"] == 1 or not fits or math.prod(shape) < config.smallest:
        return (None,) * len(shape)
    return tuple("fsdp" if place == max(fits)[1] else None for place in range(len(shape)))


def axes_of(config: Config, sizes: Mapping[str, int], state: TrainState) -> PyTree:
    """Of each array of a train state, or of its shapes, the axes of the mesh that its own axes lie over, as a tuple.

    What belongs to a parameter and has its shape, moments and averages, lies as the parameter does: its path ends as that does.

    Raises:
        ValueError: a rule matches no parameter, or does not fit one.
    """
    named = flatten_names(state.frozen) | flatten_names(state.params)
    check_patterns([rule.pattern for rule in config.rules], named, "mesh.rules")
    parameters = {path: tuple(leaf.shape) for path, leaf in named.items()}

    def leaf(path: str, x: Any) -> Axes:
        words, shape = path.split("/"), tuple(x.shape)
        ends = ("/".join(words[start:]) for start in range(1, len(words)))
        own = next((end for end in ends if parameters.get(end) == shape), None)
        found = None if own is None else _by_rule(config, sizes, own, shape)
        return _by_size(config, sizes, shape) if found is None else found

    return map_with_path(leaf, state)


def bytes_each(sizes: Mapping[str, int], tree: PyTree, axes: PyTree) -> int:
    """Of arrays, or of their shapes, what each device holds; `axes` as of `axes_of`."""

    def own(x: Any, axes: Axes) -> int:
        whole = x.size * x.dtype.itemsize if hasattr(x.dtype, "itemsize") else 0
        return whole // math.prod(sizes[axis] for axis in axes if axis is not None)

    return sum(jax.tree.leaves(jax.tree.map(own, tree, axes)))


def told(config: Config, sizes: Mapping[str, int], state: TrainState) -> str:
    """In a line, how much of a train state lies on each device."""
    whole, each = (bytes_each(of, state, axes_of(config, sizes, state)) for of in (dict.fromkeys(sizes, 1), sizes))
    shape = ", ".join(f"{axis} {size}" for axis, size in sizes.items())
    return f"mesh {shape}: of the train state's {whole / 2**20:,.1f} MiB each device holds {each / 2**20:,.1f}"


def sharded(config: Config, mesh: Mesh) -> Callable[[TrainState], PyTree]:
    """A function from the shapes of a train state to where each array lies on the mesh."""
    lies = lambda _, axes: NamedSharding(mesh, PartitionSpec(*axes))  # noqa: E731
    return lambda state: jax.tree.map(lies, state, axes_of(config, dict(mesh.shape), state))
