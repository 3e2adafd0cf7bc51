"""One robot's numbers among those of others: in a space that has every dimension, with a mask for those it has not."""

from dataclasses import dataclass, replace

import numpy as np

from jaxrl_data.embodiments import Embodiment, Space, indices, place, taken
from jaxrl_data.transforms.interface import Sample, Spec
from jaxrl_data.transforms.keys import ACTION, MASK, needed


@dataclass(frozen=True)
class Place:
    """The action in `space`; its mask is 0 where the robot has no such dimension. The inverse takes the robot's own out again."""

    space: Space
    embodiment: Embodiment

    def __post_init__(self) -> None:
        indices(self.space, self.embodiment)

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        if ACTION not in sample:
            return sample
        action, has = place(self.space, self.embodiment, sample[ACTION])
        mask = np.broadcast_to(has, action.shape).copy()
        if MASK in sample:
            mask = place(self.space, self.embodiment, sample[MASK])[0]
        return {**sample, ACTION: action, MASK: mask}

    def inverse(self, sample: Sample) -> Sample:
        if ACTION not in sample:
            return sample
        return {**sample, ACTION: taken(self.space, self.embodiment, np.asarray(sample[ACTION]))}

    def spec(self, before: Spec) -> Spec:
        spec = needed(before, ACTION, "Place")
        width = len(self.embodiment.dimensions)
        if spec.shape[-1] != width:
            raise ValueError(f"Place: the action has {spec.shape[-1]} dimensions, but {self.embodiment.name} {width}")
        shape = (*spec.shape[:-1], len(self.space.dimensions))
        told = self.space.spec
        return {
            **before,
            ACTION: replace(spec, shape=shape, names=told.names, unit=told.unit, low=None, high=None),
            MASK: replace(spec, shape=shape, names=(), unit=""),
        }


@dataclass(frozen=True)
class PlaceStates:
    """All state groups of one data set as one, "observation/state/<into>" [history, D] in `space`; 0 where the set tells no such dimension.

    "present/state/<into>_dimensions" [D] is 1 where it does. A set that tells no state has none, and its samples still have the same names
    as those of others.
    """

    space: Space
    groups: tuple[tuple[str, Embodiment], ...]  # of this set: the name of a group, and its dimensions
    into: str = "all"

    def __post_init__(self) -> None:
        for _, told in self.groups:
            indices(self.space, told)
        names = [one.name for _, told in self.groups for one in told.dimensions]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"PlaceStates: {twice[0]} is in two groups of one data set, but has one place")
        if self.into in (group for group, _ in self.groups):
            raise ValueError(f"PlaceStates: {self.into} is one of the groups; another name is needed for all of them")

    @property
    def _key(self) -> str:
        return f"observation/state/{self.into}"

    @property
    def _dimensions(self) -> np.ndarray:
        has = np.zeros(len(self.space.dimensions), np.float32)
        for _, told in self.groups:
            has[indices(self.space, told)] = 1.0
        return has

    def _gone(self) -> set[str]:
        return {f"{start}/state/{group}" for group, _ in self.groups for start in ("observation", "present")}

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        padded = np.zeros((_history(sample), len(self.space.dimensions)), np.float32)
        for group, told in self.groups:
            key = f"observation/state/{group}"
            if key not in sample:
                raise ValueError(f"{sample.get('name', 'observation')}: lacks {key}, whose dimensions were told to PlaceStates")
            padded[:, indices(self.space, told)] = sample[key]
        kept = {key: value for key, value in sample.items() if key not in self._gone()}
        present = [sample[key] for key in sorted(self._gone()) if key.startswith("present/") and key in sample]
        if present or not self.groups:
            kept[f"present/state/{self.into}"] = np.min(present, axis=0) if present else np.zeros(len(padded), np.float32)
        return {**kept, self._key: padded, f"present/state/{self.into}_dimensions": self._dimensions}

    def inverse(self, sample: Sample) -> Sample:
        return sample

    def spec(self, before: Spec) -> Spec:
        for group, told in self.groups:
            width = needed(before, f"observation/state/{group}", "PlaceStates").shape[-1]
            if width != len(told.dimensions):
                raise ValueError(f"PlaceStates: {group} has {width} dimensions, but {told.name} {len(told.dimensions)}")
        kept = {key: value for key, value in before.items() if key not in self._gone()}
        history = next(value.shape[0] for key, value in before.items() if key.startswith("observation/") and value.shape)
        one, size = self.space.spec, len(self.space.dimensions)
        return {
            **kept,
            self._key: replace(one, shape=(history, size)),
            f"present/state/{self.into}": replace(one, shape=(history,), names=(), unit=""),
            f"present/state/{self.into}_dimensions": replace(one, shape=(size,), names=(), unit=""),
        }


def _history(sample: Sample) -> int:
    """Of the first observation that has one."""
    for key, value in sample.items():
        if key.startswith(("observation/state/", "observation/image/", "observation/depth/")):
            return len(value)
    raise ValueError(f"{sample.get('name', 'observation')}: has neither a state nor an image, and so no history")
