"""Transforms by the names that a config calls them: {"name": "delta_action", "state": "observation/state/joints", ...}."""

import dataclasses
import inspect
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl.ops.suggestion import suggestion
from jaxrl_data.transforms.augment import ColourJitter, Crop, ProprioceptionDropout, Shift
from jaxrl_data.transforms.grippers import GripperRange
from jaxrl_data.transforms.interface import Transform
from jaxrl_data.transforms.poses import ConvertRotation, DeltaAction, RelativePose
from jaxrl_data.transforms.select import Select

Table = Mapping[str, type[Transform]]

# How one data set's states and actions are told.
NUMBERS: Table = {
    "delta_action": DeltaAction,
    "relative_pose": RelativePose,
    "convert_rotation": ConvertRotation,
    "gripper_range": GripperRange,
    "select": Select,
}
# What makes samples different each time, alike for all sets.
AUGMENTATIONS: Table = {
    "crop": Crop,
    "shift": Shift,
    "colour_jitter": ColourJitter,
    "proprioception_dropout": ProprioceptionDropout,
}


def named(sections: Sequence[Mapping[str, Any]], table: Table, where: str) -> tuple[Transform, ...]:
    """The transforms of `table` that the sections name, in their order.

    Raises ValueError that starts with `where`: a name or field is unknown or missing, or the transform refuses its value.
    """
    return tuple(_one(section, table, f"{where}[{place}]") for place, section in enumerate(sections))


def _one(section: Mapping[str, Any], table: Table, where: str) -> Transform:
    name = section.get("name")
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"{where}.name is {name!r}, but must be one of {', '.join(table)}")
    given = {key: _tuples(value) for key, value in section.items() if key != "name"}
    cls: Any = table[name]
    fields = tuple(one.name for one in dataclasses.fields(cls))
    for key in given:
        if key not in fields:
            raise ValueError(f"{where}.{key}: {name} has no such field; {suggestion(key, fields)}")
    try:
        inspect.signature(cls).bind(**given)
    except TypeError as error:
        raise ValueError(f"{where}: {name}: {error}") from None
    hints = typing.get_type_hints(cls)
    for key, value in given.items():
        if not _fits(value, hints[key]):
            raise ValueError(f"{where}.{key}: expected {_told(hints[key])}, got {section[key]!r}")
    try:
        made: Transform = cls(**given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return made


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is tuple:
        members = typing.get_args(hint)
        if members[-1] is Ellipsis and isinstance(value, tuple):
            members = members[:1] * len(value)
        return isinstance(value, tuple) and len(value) == len(members) and all(map(_fits, value, members))
    return type(value) in ((int, float) if hint is float else (hint,))


def _told(hint: Any) -> str:
    return str(hint) if typing.get_args(hint) else hint.__name__


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
