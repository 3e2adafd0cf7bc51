"""How far a gripper is open, in one convention: 0 is closed, 1 is open."""

from dataclasses import dataclass, replace

import numpy as np

from jaxrl_data.transforms.interface import Sample, Spec
from jaxrl_data.transforms.keys import ACTION, needed, within


@dataclass(frozen=True)
class GripperRange:
    """A column whose `closed` becomes 0 and whose `opened` becomes 1; the inverse gives the robot its own numbers.

    A gripper that counts how far it is closed has `closed` 1 and `opened` 0. With a threshold above 0, what the policy returns becomes
    fully closed below it and fully open from it on.
    """

    key: str
    column: int
    closed: float
    opened: float
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.closed == self.opened:
            raise ValueError(f"GripperRange {self.key}: closed and opened are both {self.closed}, but are two numbers of the gripper")
        if self.column < 0 or not 0 <= self.threshold < 1:
            raise ValueError(f"GripperRange {self.key}: column counts from 0, threshold is from 0 (none) to below 1")

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        if self.key not in sample:
            return sample
        values = np.array(sample[self.key], np.float32)
        values[..., self.column] = (values[..., self.column] - self.closed) / (self.opened - self.closed)
        return {**sample, self.key: values}

    def inverse(self, sample: Sample) -> Sample:
        if self.key != ACTION or ACTION not in sample:
            return sample
        values = np.array(sample[ACTION], np.float32)
        openness = values[..., self.column]
        if self.threshold:
            openness = (openness >= self.threshold).astype(np.float32)
        values[..., self.column] = openness * (self.opened - self.closed) + self.closed
        return {**sample, ACTION: values}

    def spec(self, before: Spec) -> Spec:
        spec = needed(before, self.key, "GripperRange")
        within((self.column,), spec, self.key, "GripperRange")
        return {**before, self.key: replace(spec, low=None, high=None)}
