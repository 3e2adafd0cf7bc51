"""The names of a sample's entries, and the changes that most transforms make to them."""

import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import ArraySpec
from jaxrl_data.transforms.interface import Sample, Spec

ACTION = "action"
MASK = "mask"
INSTRUCTION = "observation/task/instruction"
STATE = "observation/state/"
IMAGE = "observation/image/"
DEPTH = "observation/depth/"
GOAL = "observation/task/goal_image/"
ROOM = "room"
HELD_OUT = "held_out"
CUT = "cut"


def room(sample: Sample, key: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Where the entry `key` is to be written: its row of the batch where the sample has one of this shape, or else a new array."""
    found: np.ndarray | None = sample.get(ROOM, {}).get(key)
    fits = found is not None and found.shape == shape and found.dtype == dtype
    return found if fits else np.empty(shape, dtype)  # type: ignore[return-value]


@cache
def camera(key: str) -> str:
    """Of an image's key: "primary" of "observation/image/primary" and of its goal image; "" where it is no image."""
    for start in (IMAGE, DEPTH, GOAL):
        if key.startswith(start):
            return key.removeprefix(start)
    return ""


def pictures(sample: Mapping[str, Any], cameras: tuple[str, ...], depth: bool = False) -> tuple[str, ...]:
    """The keys of images of `cameras`, or of all where none is named; those of depth where told."""
    found = (key for key in sample if camera(key) and (depth or not key.startswith(DEPTH)))
    return tuple(key for key in found if not cameras or camera(key) in cameras)


def trained(sample: Sample) -> bool:
    """Whether this is for training. On a robot there is an observation and no action, and nothing is to be made up; nor in validation."""
    return ACTION in sample and HELD_OUT not in sample


def stream(random: np.random.Generator, names: tuple[str, ...]) -> dict[str, np.random.Generator]:
    """A generator for each name, from one draw of `random`: the same whichever other names there are."""
    root = int(random.integers(2**63))
    return {name: np.random.default_rng((root, zlib.crc32(name.encode()))) for name in names}


def needed(before: Spec, key: str, what: str) -> ArraySpec:
    """The spec of `key`. Raises ValueError that says which transform needs it."""
    if key not in before:
        known = tuple(name for name in before if not name.startswith("present/"))
        raise ValueError(f"{what}: needs {key}; {suggestion(key, known)}")
    return before[key]


def within(columns: tuple[int, ...], spec: ArraySpec, key: str, what: str) -> None:
    """Raises ValueError where a column is not one of the last axis."""
    width = spec.shape[-1]
    for column in columns:
        if isinstance(width, int) and not 0 <= column < width:
            raise ValueError(f"{what}: {key} has {width} dimensions, and none of the number {column}, counted from 0")


def units(spec: ArraySpec) -> tuple[str, ...]:
    """One per name of the last axis."""
    return tuple(spec.unit.split(",")) if "," in spec.unit else (spec.unit,) * len(spec.names)


def spliced(spec: ArraySpec, first: int, width: int, names: tuple[str, ...], unit: str) -> ArraySpec:
    """The spec once `width` columns from `first` gave way to columns of `names`. Limits, which told of the old ones, are gone."""
    size = spec.shape[-1]
    shape = (*spec.shape[:-1], size - width + len(names) if isinstance(size, int) else size)
    if not spec.names:
        return replace(spec, shape=shape, low=None, high=None)
    every = units(spec)
    return replace(
        spec,
        shape=shape,
        names=(*spec.names[:first], *names, *spec.names[first + width :]),
        unit=",".join((*every[:first], *(unit,) * len(names), *every[first + width :])),
        low=None,
        high=None,
    )
