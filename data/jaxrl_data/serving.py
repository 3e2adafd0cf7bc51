"""The transforms that a policy was trained with, mirrored: what a robot sees becomes what the policy reads, and what it returns an action.

kept = read_meta("runs/bc/checkpoints")["data"]["bridge"]          # of the set whose robot this is
served = serving(kept)
observation, reference = served.observe({"state/eef": eef, "image/primary": image, "task/instruction": "put carrot on plate"})
chunk = ...                                                        # of the policy, in the numbers that it was trained on
actions = served.act(chunk, reference)                             # [horizon, A] in the robot's own
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl_data.transforms.interface import Sample, Transform, apply, invert
from jaxrl_data.transforms.keys import ACTION
from jaxrl_data.transforms.stored import from_json

_SEEN = "observation/"
_KEPT = "reference/"


class Serving(NamedTuple):
    """Numpy in, numpy out; no state of its own."""

    observe: Callable[[Mapping[str, Any]], tuple[dict[str, Any], Sample]]
    act: Callable[[np.ndarray, Sample], np.ndarray]


def serving(kept: Mapping[str, Any]) -> Serving:
    """Of what a checkpoint keeps of one data set (`Loaded.kept`).

    `observe` takes the robot's observation by house names: texts, states [D] and images, [height, width, 3] uint8 or encoded, both with a
    history in front where `history` is above 1. It returns what the policy reads, without a batch, and what `act` needs of it.

    Raises:
        ValueError: it was made by another version; later, an observation lacks something, has another history, or is not finite, as may
            be what the policy returns.
    """
    transforms, history, reads = from_json(kept["transforms"]), int(kept["history"]), kept["observation"]

    def observe(seen: Mapping[str, Any]) -> tuple[dict[str, Any], Sample]:
        _check(seen, reads)
        sample = {f"{_SEEN}{name}": _with_history(name, value, history) for name, value in seen.items()}
        found = apply(transforms, sample, np.random.default_rng(0))  # nothing is made up where there is no action
        read = {name.removeprefix(_SEEN): value for name, value in found.items() if name.startswith(_SEEN)}
        of_steps = ("state/", "image/", "depth/")
        observation = {name: value[0] if history == 1 and name.startswith(of_steps) else value for name, value in read.items()}
        return observation, {name: value for name, value in found.items() if name.startswith(_KEPT)}

    return Serving(observe, lambda chunk, reference: _undone(transforms, chunk, reference))


def _check(seen: Mapping[str, Any], reads: Mapping[str, int | None]) -> None:
    """Raises ValueError: a state or image is missing, unknown, of another width or kind, or not finite."""
    for name in seen:
        if name not in reads and not name.startswith("task/"):
            raise ValueError(f"{name}: the policy reads no such thing; {suggestion(name, tuple(reads))}")
    for name, width in reads.items():
        if name not in seen:
            raise ValueError(f"{name}: is missing in what the robot sees")
        if width is not None and np.shape(seen[name])[-1:] != (width,):
            raise ValueError(f"{name}: has the shape {np.shape(seen[name])}, but the policy reads {width} numbers of each step")
        if width is not None and not np.isfinite(seen[name]).all():
            raise ValueError(f"{name}: is not finite, {np.asarray(seen[name]).tolist()}; hold the robot until its sensors are well")
        image = seen[name] if name.startswith("image/") and isinstance(seen[name], np.ndarray) else None
        if image is not None and image.dtype != object and (image.dtype != np.uint8 or image.shape[-1:] != (3,)):
            raise ValueError(f"{name}: is {image.dtype} {image.shape}, but the policy reads uint8 [height, width, 3]")


def _with_history(name: str, value: Any, history: int) -> Any:
    if isinstance(value, str):
        return value
    if name.startswith("task/"):  # an image of the goal: one, whatever the history
        return [value] if isinstance(value, bytes) else np.asarray(value)[None]
    if isinstance(value, bytes):
        value = [value]
    elif history == 1:
        value = np.asarray(value)[None]
    if len(value) != history:
        raise ValueError(f"{name}: has {len(value)} steps of history, but the policy reads {history}")
    if name.startswith("state/") and np.ndim(value) != 2:
        raise ValueError(f"{name}: has the shape {np.shape(value)} with its history, but the policy reads [{history}, numbers]")
    return value


def _undone(transforms: tuple[Transform, ...], chunk: np.ndarray, reference: Sample) -> np.ndarray:
    if not np.isfinite(chunk).all():
        raise ValueError("the policy's chunk is not finite; do not execute it")
    action: np.ndarray = invert(transforms, {ACTION: np.asarray(chunk, np.float32), **reference})[ACTION]
    return action
