"""Robots with different dimensions in one padded space: every dimension has a name and a unit, and equal names meet."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import ArraySpec


class Dimension(NamedTuple):
    """One number of an action or a state."""

    name: str
    unit: str  # "m", "rad", "1" of what has none; "" where it is not known, which is not the same as any other


@dataclass(frozen=True)
class Embodiment:
    """The dimensions of one robot's vector, in the order in which it has them."""

    name: str
    dimensions: tuple[Dimension, ...]

    def __post_init__(self) -> None:
        names = [one.name for one in self.dimensions]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{self.name}: has the dimension {twice[0]} twice; two arms need two names, such as left_{twice[0]}")


@dataclass(frozen=True)
class Space:
    """The dimensions of all robots that meet, [A]."""

    dimensions: tuple[Dimension, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the dimensions, in order."""
        return tuple(one.name for one in self.dimensions)

    @property
    def spec(self) -> ArraySpec:
        """Of one vector."""
        return ArraySpec((len(self.dimensions),), names=self.names, unit=",".join(one.unit for one in self.dimensions))


def embodiment(name: str, spec: ArraySpec) -> Embodiment:
    """From the names and units that a file tells of an array. Raises ValueError where it tells no names."""
    width = spec.shape[-1] if spec.shape else 0
    if len(spec.names) != width:
        raise ValueError(f"{name}: has {width} dimensions and {len(spec.names)} names; an embodiment needs a name for each")
    units = spec.unit.split(",") if "," in spec.unit else [spec.unit] * len(spec.names)
    if len(units) != len(spec.names):
        raise ValueError(f"{name}: has {len(spec.names)} dimensions and {len(units)} units; write one, or one for each")
    return Embodiment(name, tuple(Dimension(*one) for one in zip(spec.names, units, strict=True)))


def unitless(robot: Embodiment) -> Embodiment:
    """The same once normalised by the statistics of its own data set: its numbers have no unit left."""
    return Embodiment(robot.name, tuple(Dimension(one.name, "1") for one in robot.dimensions))


def space(embodiments: Iterable[Embodiment]) -> Space:
    """The union by name, each name where it comes first. The order of the embodiments is the order of the space: keep it.

    Raises ValueError that names both robots where one name has two units.
    """
    known: dict[str, tuple[Dimension, str]] = {}
    for robot in embodiments:
        for one in robot.dimensions:
            before, owner = known.setdefault(one.name, (one, robot.name))
            if before.unit != one.unit:
                raise ValueError(
                    f"{one.name} is in {before.unit or 'an unknown unit'} for {owner}, but in {one.unit or 'an unknown unit'} for "
                    f"{robot.name}; convert one, name them differently, or normalise each by its own data set and take `unitless`"
                )
    return Space(tuple(one for one, _ in known.values()))


def indices(into: Space, robot: Embodiment) -> np.ndarray:
    """Where the robot's dimensions are in the space, [a]. Raises ValueError that names the first that is not there, or has another unit."""
    where = {one.name: index for index, one in enumerate(into.dimensions)}
    for one in robot.dimensions:
        if one.name not in where:
            raise ValueError(f"{robot.name}: the space has no dimension {one.name}; {suggestion(one.name, into.names)}")
        unit = into.dimensions[where[one.name]].unit
        if unit != one.unit:
            raise ValueError(
                f"{robot.name}: {one.name} is in {one.unit or 'an unknown unit'}, but in {unit or 'an unknown unit'} in the space"
            )
    return np.array([where[one.name] for one in robot.dimensions], int)


def place(into: Space, robot: Embodiment, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The robot's `values` [..., a] in the space, float32 [..., A], 0 where it has no such dimension; and a mask [A], 1 where it has."""
    where = indices(into, robot)
    if values.shape[-1] != len(where):
        raise ValueError(f"{robot.name}: has {len(where)} dimensions, not {values.shape[-1]}")
    padded = np.zeros((*values.shape[:-1], len(into.dimensions)), np.float32)
    padded[..., where] = values
    mask = np.zeros(len(into.dimensions), np.float32)
    mask[where] = 1.0
    return padded, mask


def taken(source: Space, robot: Embodiment, padded: np.ndarray) -> np.ndarray:
    """Back: the robot's own numbers [..., a] out of the space's [..., A]."""
    if padded.shape[-1] != len(source.dimensions):
        raise ValueError(f"the space has {len(source.dimensions)} dimensions, not {padded.shape[-1]}")
    return padded[..., indices(source, robot)]
