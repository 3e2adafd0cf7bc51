"""From an episode and a step to a sample: what was seen up to the step, and what was done from it on. Never across an end."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from jaxrl.types import ArraySpec
from jaxrl_data.episode import Episode, Features, length
from jaxrl_data.transforms.interface import Sample, Spec
from jaxrl_data.transforms.keys import ACTION, GOAL, MASK


def _rows(column: Any, at: slice | np.ndarray) -> Any:
    """Rows of an array; a list of the encoded images."""
    if isinstance(column, np.ndarray):
        return column[at]
    return [column[index] for index in (range(at.start, at.stop, at.step) if isinstance(at, slice) else at)]


@cache
def _ones(*shape: int) -> np.ndarray:
    """float32, to be read alone."""
    found = np.ones(shape, np.float32)
    found.flags.writeable = False
    return found


def _seen(step: int, count: int, stride: int) -> tuple[slice | np.ndarray, np.ndarray]:
    """Rows of a history that ends with `step`, the first repeated where it begins before the episode; and [count], 0 where it does."""
    if step >= (count - 1) * stride:
        return slice(step - (count - 1) * stride, step + 1, stride), _ones(count)
    at = step - stride * np.arange(count)[::-1]
    return np.maximum(at, 0), (at >= 0).astype(np.float32)


def _chunk(action: np.ndarray, step: int, count: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """`action` [count, A] from a step on, the last repeated behind the episode's end; and a mask of the same shape, 0 there."""
    last = step + (count - 1) * stride
    if last < len(action):
        return action[step : last + 1 : stride], _ones(count, *action.shape[1:])
    at = step + stride * np.arange(count)
    found = action[np.minimum(at, len(action) - 1)]
    mask = np.zeros(found.shape, np.float32)
    mask[at < len(action)] = 1.0
    return found, mask


@dataclass(frozen=True)
class Window:
    """`history` observations up to the step and `horizon` actions from it on; every step of an episode may be drawn, the last too.

    What lies before the first step repeats it, what lies behind the last repeats that, and `present` and `mask` are 0 there. A camera that
    an episode lacks is an empty image of `present` 0. Strides take every so many-th step: of actions that are differences, that leaves
    motion out.
    """

    history: int = 1
    horizon: int = 1
    history_stride: int = 1
    action_stride: int = 1
    cameras: tuple[str, ...] = ()  # that each sample has; none named: those of its episode

    def __post_init__(self) -> None:
        for name in ("history", "horizon", "history_stride", "action_stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"Window: {name} is {getattr(self, name)}, but counts at least 1")

    def __call__(self, episode: Episode, step: int, random: np.random.Generator | None = None) -> Sample:
        """The sample of `step`, 0 to T - 1. Nothing is drawn; `random` is there so that other windows may."""
        steps = length(episode)
        if not 0 <= step < steps:
            raise ValueError(f"{episode.name}: has no step {step}, but {steps} from 0 on")
        seen, present = _seen(step, self.history, self.history_stride)
        sample: Sample = {"name": f"{episode.name}, step {step}"}
        for name, column in (*episode.arrays.items(), *episode.images.items()):
            if name.startswith(("state/", "image/", "depth/")) and self._wanted(name):
                sample[f"observation/{name}"] = _rows(column, seen)
                sample[f"present/{name}"] = present
        for camera in self.cameras:
            if f"image/{camera}" not in episode.images:
                sample[f"observation/image/{camera}"] = [b""] * self.history
                sample[f"present/image/{camera}"] = np.zeros(self.history, np.float32)
        for name, texts in episode.texts.items():
            if name.startswith("task/"):
                sample[f"observation/{name}"] = texts[step]
        if ACTION in episode.arrays:
            action, mask = _chunk(episode.arrays[ACTION], step, self.horizon, self.action_stride)
            sample |= {ACTION: action.astype(np.float32, copy=False), MASK: mask}
        return sample

    def _wanted(self, name: str) -> bool:
        kind, camera = name.split("/", 1)
        return kind == "state" or not self.cameras or camera in self.cameras

    def spec(self, features: Features) -> Spec:
        """Of the samples of episodes with these features. Images are still encoded."""
        found: dict[str, ArraySpec] = {}
        for name, column in features.arrays.items():
            if name.startswith(("state/", "depth/")) and self._wanted(name):
                found[f"observation/{name}"] = ArraySpec((self.history, *column.shape), column.dtype, column.names, column.unit)
        images = {*features.images, *(f"image/{camera}" for camera in self.cameras)}
        found |= {f"observation/{name}": ArraySpec((self.history,), "bytes") for name in sorted(images) if self._wanted(name)}
        found |= {name.replace("observation", "present", 1): ArraySpec((self.history,)) for name in tuple(found)}
        found |= {f"observation/{name}": ArraySpec((), "str") for name in features.texts if name.startswith("task/")}
        if ACTION in features.arrays:
            action = features.arrays[ACTION]
            found[ACTION] = ArraySpec((self.horizon, *action.shape), "float32", action.names, action.unit)
            found[MASK] = ArraySpec((self.horizon, *action.shape))
        return {**found, "name": ArraySpec((), "str")}


@dataclass(frozen=True)
class GoalWindow:
    """A window whose goal is what the same episode's cameras see later: uniform over the steps behind, the last one too.

    The last step's goal is itself. With `keep_instruction` as probability the words stay, else they become "".
    """

    window: Window
    cameras: tuple[str, ...] = ("primary",)
    keep_instruction: float = 1.0

    def __post_init__(self) -> None:
        if not self.cameras:
            raise ValueError("GoalWindow: names no camera, but a goal is what some camera sees")
        if not 0.0 <= self.keep_instruction <= 1.0:
            raise ValueError(f"GoalWindow: keep_instruction is {self.keep_instruction}, but is a probability, 0 to 1")

    def __call__(self, episode: Episode, step: int, random: np.random.Generator) -> Sample:
        """As `Window`, with "observation/task/goal_image/<camera>", one encoded image each."""
        sample = self.window(episode, step, random)
        last = length(episode) - 1
        goal = last if step >= last else int(random.integers(step + 1, last + 1))
        for camera in self.cameras:
            column = episode.images.get(f"image/{camera}")
            sample[f"{GOAL}{camera}"] = [b"" if column is None else column[goal]]
        if random.random() >= self.keep_instruction:
            sample |= {key: "" for key in sample if key.startswith("observation/task/instruction")}
        return sample

    def spec(self, features: Features) -> Spec:
        """As `Window`'s, with the goal images."""
        return {**self.window.spec(features), **{f"{GOAL}{camera}": ArraySpec((1,), "bytes") for camera in self.cameras}}


@dataclass(frozen=True)
class IdleFilter:
    """Which steps may be drawn: not those from which on the robot mostly stands.

    A step is idle where every one of the columns `moving` is nearer to 0 than `threshold`, and every one of `held` is what it was the step
    before. It is left out where at least `share` of the coming `horizon` steps, within the episode, are idle.
    """

    moving: tuple[int, ...]  # columns of the action that are differences or velocities
    held: tuple[int, ...] = ()  # columns that are positions, such as the gripper's
    threshold: float = 1e-3
    horizon: int = 1
    share: float = 1.0

    def __post_init__(self) -> None:
        if not (*self.moving, *self.held):
            raise ValueError("IdleFilter: names no column of the action, so that every step would be idle")
        if self.horizon < 1 or self.threshold < 0 or not 0 < self.share <= 1:
            raise ValueError("IdleFilter: horizon counts at least 1, threshold is not negative, share is above 0 and at most 1")

    def __call__(self, episode: Episode) -> np.ndarray:
        """bool [T], True where a step may be drawn; of an episode that stands still, none. Raises ValueError where a column is missing."""
        action = episode.arrays[ACTION]
        worst = max((*self.moving, *self.held))
        if worst >= action.shape[1]:
            raise ValueError(f"{episode.name}: its action has {action.shape[1]} dimensions, and none of the number {worst}, counted from 0")
        still = np.all(np.abs(action[:, list(self.moving)]) < self.threshold, axis=1)
        kept = action[:, list(self.held)]
        still[1:] &= np.all(np.abs(np.diff(kept, axis=0)) < max(self.threshold, 1e-6), axis=1)
        sums = np.concatenate(([0], np.cumsum(still)))
        steps = np.arange(len(still))
        ends = np.minimum(steps + self.horizon, len(still))
        return (sums[ends] - sums[steps]) < self.share * (ends - steps)
