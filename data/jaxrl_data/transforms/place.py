"""One robot's action among those of others: in a space that has every dimension, with a mask for those it has not."""

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
