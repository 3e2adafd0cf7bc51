"""Where arrays lie while a program runs on several devices."""

import math
from typing import Any, TypeVar

import jax
from jax.sharding import PartitionSpec

T = TypeVar("T")
_ROWS = ("data", "fsdp")  # the axes that share out the rows of a batch, where a mesh has them


def row_axes(mesh: Any) -> tuple[str, ...]:
    """The axes of a mesh that share out the rows of a batch."""
    return tuple(axis for axis in _ROWS if axis in mesh.axis_names)


def check_rows(batch_size: int, mesh: Any) -> None:
    """Raises ValueError where the devices that share out a batch do not divide it."""
    number = math.prod(mesh.shape[axis] for axis in row_axes(mesh))
    if batch_size % number:
        axes = " and ".join(f"`{axis}`" for axis in row_axes(mesh))
        told = f"{number} devices on the mesh axis {axes}" if len(row_axes(mesh)) == 1 else f"{number} devices on the mesh axes {axes}"
        raise ValueError(f"batch_size is {batch_size}, which {told} do not divide")


def by_rows(x: T) -> T:
    """A tree of arrays [B, ...], whose rows lie where those of the batch do: in a program that `fit` compiles for parameters in parts.

    The compiler would have to guess it of what is worked out of such parameters, and guesses that it is shared out as they are.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not (axes := row_axes(mesh)) or set(axes) & set(mesh.manual_axes):
        return x
    number = math.prod(mesh.shape[axis] for axis in axes)
    place = lambda y: jax.lax.with_sharding_constraint(y, PartitionSpec(axes)) if len(y) % number == 0 else y  # noqa: E731
    return jax.tree.map(place, x)
