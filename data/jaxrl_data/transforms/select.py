"""Fewer dimensions of a state than its file has."""

from dataclasses import dataclass, replace

import numpy as np

from jaxrl_data.transforms.interface import Sample, Spec
from jaxrl_data.transforms.keys import ACTION, needed, within


@dataclass(frozen=True)
class Select:
    """A policy sees these `columns` of the state `key`, in this order, and no others."""

    key: str
    columns: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.key == ACTION:
            raise ValueError("Select action: a robot needs all of its action; leave dimensions out of states alone")
        if not self.columns or min(self.columns) < 0 or len(set(self.columns)) < len(self.columns):
            raise ValueError(f"Select {self.key}: columns are {self.columns}, but must be different numbers from 0 on, at least one")

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        if self.key not in sample:
            return sample
        return {**sample, self.key: np.ascontiguousarray(sample[self.key][..., self.columns])}

    def inverse(self, sample: Sample) -> Sample:
        return sample

    def spec(self, before: Spec) -> Spec:
        spec = needed(before, self.key, "Select")
        within(self.columns, spec, self.key, "Select")

        def chosen(values: tuple) -> tuple:
            return tuple(values[column] for column in self.columns)

        units = spec.unit.split(",")
        return {
            **before,
            self.key: replace(
                spec,
                shape=(*spec.shape[:-1], len(self.columns)),
                names=chosen(spec.names) if spec.names else (),
                unit=",".join(chosen(tuple(units))) if len(units) > 1 else spec.unit,
                low=chosen(spec.low) if isinstance(spec.low, tuple) else spec.low,
                high=chosen(spec.high) if isinstance(spec.high, tuple) else spec.high,
            ),
        }
