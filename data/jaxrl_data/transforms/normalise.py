"""Numbers in a range that networks like, and back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from jaxrl_data.transforms.interface import Sample, Spec
from jaxrl_data.transforms.keys import ACTION, needed


@dataclass(frozen=True)
class Normalise:
    """(x - offset) / scale for every dimension of `key`, clipped to +-`clip` where that is not 0. The inverse cannot undo a clip.

    Made by `z_score` and `bounds`, which know floors and dimensions to be left alone.
    """

    key: str
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    clip: float = 0.0

    def __post_init__(self) -> None:
        if len(self.offset) != len(self.scale):
            raise ValueError(
                f"Normalise {self.key}: {len(self.offset)} offsets and {len(self.scale)} scales, but one each for every dimension"
            )
        numbers = np.array((self.offset, self.scale))
        for index in range(len(self.scale)):
            if not np.isfinite(numbers[:, index]).all() or self.scale[index] <= 0:
                raise ValueError(
                    f"Normalise {self.key}: dimension {index} has offset {self.offset[index]} and scale {self.scale[index]}; "
                    "a scale is positive: look for a constant or a NaN in the data set"
                )
        if self.clip < 0:
            raise ValueError(f"Normalise {self.key}: clip is {self.clip}, but is not negative; 0 clips nothing")

    @cached_property
    def _offset(self) -> np.ndarray:
        return np.asarray(self.offset, np.float32)

    @cached_property
    def _scale(self) -> np.ndarray:
        return np.asarray(self.scale, np.float32)

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        if self.key not in sample:
            return sample
        values = (np.asarray(sample[self.key], np.float32) - self._offset) / self._scale
        return {**sample, self.key: np.clip(values, -self.clip, self.clip) if self.clip else values}

    def inverse(self, sample: Sample) -> Sample:
        """Of an action; an observation stays as the policy saw it."""
        if self.key != ACTION or ACTION not in sample:
            return sample
        return {**sample, ACTION: np.asarray(sample[ACTION]) * self._scale + self._offset}

    def spec(self, before: Spec) -> Spec:
        spec = needed(before, self.key, "Normalise")
        if spec.shape[-1] != len(self.offset):
            raise ValueError(f"Normalise: {self.key} has {spec.shape[-1]} dimensions, but statistics of {len(self.offset)}")
        return {**before, self.key: replace(spec, unit="1", low=None, high=None)}


def _made(key: str, offset: np.ndarray, scale: np.ndarray, normalised: Sequence[bool] | None, clip: float) -> Normalise:
    if normalised is not None:
        if len(normalised) != len(offset):
            raise ValueError(f"{key}: normalised has {len(normalised)} entries for {len(offset)} dimensions")
        offset, scale = np.where(normalised, offset, 0.0), np.where(normalised, scale, 1.0)
    return Normalise(key, tuple(float(one) for one in offset), tuple(float(one) for one in scale), clip)


def z_score(
    key: str, mean: Sequence[float], std: Sequence[float], normalised: Sequence[bool] | None = None, floor: float = 1e-3, clip: float = 0.0
) -> Normalise:
    """Mean 0 and deviation 1. A deviation below `floor` counts as `floor`: noise of a constant dimension stays small.

    `normalised` is False for dimensions that stay as they are, such as a gripper's.
    """
    return _made(key, np.asarray(mean, float), np.maximum(np.asarray(std, float), floor), normalised, clip)


def bounds(
    key: str, low: Sequence[float], high: Sequence[float], normalised: Sequence[bool] | None = None, floor: float = 1e-3, clip: float = 0.0
) -> Normalise:
    """`low` becomes -1 and `high` 1: the least and greatest, or two quantiles, outside of which numbers go beyond +-1 unless clipped.

    A range below `floor` counts as `floor` about its middle.
    """
    least, most = np.asarray(low, float), np.asarray(high, float)
    if np.any(most < least):
        index = int(np.argmax(most < least))
        raise ValueError(f"{key}: dimension {index} has low {least[index]} above high {most[index]}")
    return _made(key, (most + least) / 2, np.maximum(most - least, floor) / 2, normalised, clip)
