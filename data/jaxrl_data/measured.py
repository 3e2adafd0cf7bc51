"""What statistics are of: the numbers of an episode as training sees them, before they are normalised."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from jaxrl.types import ArraySpec
from jaxrl_data.episode import Episode, Features, length
from jaxrl_data.selection import steps_of
from jaxrl_data.statistics import Rows
from jaxrl_data.transforms.interface import Sample, Spec, Transform, apply, definition, spec_after
from jaxrl_data.transforms.keys import ACTION, MASK
from jaxrl_data.transforms.window import IdleFilter, Window


class Measured(NamedTuple):
    """Of the steps that `idle` leaves: where `transforms` change samples, the numbers of all windows, else the columns as they are."""

    window: Window = Window()
    transforms: tuple[Transform, ...] = ()
    idle: IdleFilter | None = None

    @property
    def definition(self) -> str:
        """A hash of it; "" where whole columns are counted as they are."""
        windowed = (self.window, *self.transforms) if self.transforms else ()
        every = (*windowed, *((self.idle,) if self.idle else ()))
        return definition(every) if every else ""


def specs(measured: Measured, features: Features) -> dict[str, ArraySpec]:
    """Of each column of floats, by its house name."""
    if not measured.transforms:
        return {name: spec for name, spec in features.arrays.items() if spec.dtype.startswith("float")}
    return told_rows(spec_after(measured.transforms, measured.window.spec(features)))


def told_rows(told: Spec) -> dict[str, ArraySpec]:
    """Of one step of the states and the action of samples of the spec `told`, by their house names."""
    return {
        key.removeprefix("observation/"): replace(one, shape=one.shape[1:])
        for key, one in told.items()
        if (key == ACTION or key.startswith("observation/state/")) and one.dtype.startswith("float")
    }


def rows(measured: Measured, episode: Episode, columns: Mapping[str, ArraySpec]) -> dict[str, Rows]:
    """The numbers of an episode, of each of the `columns` that `specs` told."""
    kept = steps_of(episode, measured.idle)
    if not measured.transforms:
        if kept is None:
            return {name: episode.arrays[name] for name in columns}
        return {name: (episode.arrays[name], _hits(kept, len(episode.arrays[name]))) for name in columns}
    bare, random = episode._replace(images={}, texts={}), np.random.default_rng(0)  # no transform of numbers draws anything
    steps = range(length(episode)) if kept is None else kept.tolist()
    samples = [apply(measured.transforms, measured.window(bare, step, random), random) for step in steps]
    return {name: _joined(samples, name, spec) for name, spec in columns.items()}


def _hits(kept: np.ndarray, steps: int) -> np.ndarray:
    """[steps] 1 at those kept."""
    mask = np.zeros(steps, np.float32)
    mask[kept] = 1.0
    return mask


def _joined(samples: list[Sample], name: str, spec: ArraySpec) -> tuple[np.ndarray, np.ndarray]:
    """[N, ...] of all windows, and [N], 0 where a row is padding."""
    if not samples:  # the robot stands still throughout
        return np.zeros((0, *map(int, spec.shape)), np.float32), np.zeros(0, np.float32)
    key, present = (ACTION, MASK) if name == ACTION else (f"observation/{name}", f"present/{name}")
    masks = [one[present] if one[present].ndim == 1 else one[present].max(axis=1) for one in samples]
    return np.concatenate([one[key] for one in samples]), np.concatenate(masks)
