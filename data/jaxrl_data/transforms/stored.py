"""Lists of transforms as plain JSON, as they travel with a checkpoint from training to the robot."""

import dataclasses
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from jaxrl_data.transforms.interface import Transform

_PACKAGE = "jaxrl_data."
_TYPE = "type"


def to_json(transforms: Sequence[Transform]) -> list[Any]:
    """Each as its class and its fields."""
    return [_plain(one) for one in transforms]


def from_json(plain: Sequence[Any]) -> tuple[Transform, ...]:
    """What `to_json` gave. Raises ValueError that names the class: there is none in this version, or it takes other fields."""
    return tuple(_made(one) for one in plain)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
        return {_TYPE: f"{type(value).__module__}.{type(value).__name__}", **fields}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {_TYPE: f"{type(value).__module__}.{type(value).__name__}", **{key: _plain(one) for key, one in value._asdict().items()}}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"a transform holds {type(value).__name__}, which cannot be kept; numbers, texts, tuples and dataclasses can")


def _made(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_made(one) for one in value)
    if not isinstance(value, dict):
        return value
    path = value.get(_TYPE, "")
    module, _, name = path.rpartition(".")
    try:
        if not module.startswith(_PACKAGE):
            raise ImportError(f"it is no part of {_PACKAGE.removesuffix('.')}")
        cls = getattr(import_module(module), name)
        return cls(**{key: _made(one) for key, one in value.items() if key != _TYPE})
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"{path or 'an entry without a type'}: cannot be made by this version of jaxrl: {error}") from error
