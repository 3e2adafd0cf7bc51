"""What a transform is, and lists of them.

A sample is one row of a batch: a flat dict of numpy arrays by house names,

    observation/state/<group>     float32 [history, D]
    observation/image/<camera>    uint8 [history, height, width, channels]; before `decode`, a list of encoded images
    observation/task/instruction  str, or once tokenised int32 [length], -1 where there is no token
    observation/task/goal_image/<camera>   [1, ...], as an image
    observation/depth/<camera>    uint16 or float32 [history, height, width, 1], as it is stored
    action                        float32 [horizon, A]
    mask                          float32 [horizon, A], 0 where the action is padding: behind the episode's end, or a dimension it has not
    present/<name>                float32 [history], 0 where an observation repeats what was before, or the camera is not there
    reference/<...>               what the inverse of a transform needs of the observation as it was; a policy does not look at it
    name                          str, of the episode and the step: for messages, not for batches
    cut                           the instruction, where it had more tokens than there is room for
    held_out                      True in validation: nothing is drawn at random but goals
    room                          {name: array} of the batch's row, where an image may be written at once; see `keys.room`

On a robot there is an observation and no action, and then, on the way back, an action and what the observation left under "reference/":
a transform changes what it finds of what it is for, and leaves all else. What is drawn at random is drawn where there is an action.
"""

import dataclasses
import hashlib
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxrl.types import ArraySpec

Sample = dict[str, Any]
Spec = Mapping[str, ArraySpec]  # of a sample, by the same names


class Transform(Protocol):
    """A frozen dataclass of plain numbers, texts and arrays. `inverse` is for what a policy returns; None where nothing is to be undone."""

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        """The changed sample; the given one stays as it is. Randomness comes from `random` alone."""
        ...

    def inverse(self, sample: Sample) -> Sample:
        """Undoes what the call does to `action`, and needs no more of the observation than the call left there."""
        ...

    def spec(self, before: Spec) -> Spec:
        """What a sample of the spec `before` becomes. Raises ValueError that names what is missing or does not fit."""
        ...


def apply(transforms: Sequence[Transform], sample: Sample, random: np.random.Generator) -> Sample:
    """All of them, one after the other."""
    for transform in transforms:
        sample = transform(sample, random)
    return sample


def invert(transforms: Sequence[Transform], sample: Sample) -> Sample:
    """What the last changed is undone first."""
    for transform in reversed(transforms):
        sample = transform.inverse(sample)
    return sample


def spec_after(transforms: Sequence[Transform], before: Spec) -> Spec:
    """Of a sample that went through all of them."""
    for transform in transforms:
        before = transform.spec(before)
    return before


def definition(transforms: Sequence[Any]) -> str:
    """A hash of what transforms do: their fields, and the source of their modules and of what those are built on here. No path."""
    told = [(type(one).__name__, _plain(dataclasses.asdict(one)), _sources(type(one).__module__)) for one in transforms]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _sources(name: str) -> dict[str, str]:
    """The source of a module, and of every module of this package from which it or one of those took a function or a class."""
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found[one] = inspect.getsource(sys.modules[one])
            owners = {getattr(value, "__module__", None) for value in vars(sys.modules[one]).values()}
            waiting += [owner for owner in owners if isinstance(owner, str) and owner.startswith("jaxrl_data.") and owner in sys.modules]
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [value.dtype.str, value.tolist()]
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value
