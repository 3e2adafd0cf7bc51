"""The small steps of which standardisations are made, by name. Each takes [T, D] and plain arguments, and returns [T, D']."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl_data.gripper import absolute, binarised
from jaxrl_data.rotations import convert, width, wrapped

Step = Callable[..., np.ndarray]


def _single(values: np.ndarray) -> np.ndarray:
    if values.shape[1] != 1:
        raise ValueError(f"is for one column, not {values.shape[1]}")
    return values[:, 0]


def _to_next(values: np.ndarray) -> np.ndarray:
    """What is added until the next row; 0 in the last, which has none. Rows that use it belong to a `drop_last`."""
    return np.concatenate((np.diff(values, axis=0), np.zeros_like(values[:1])))


def _to_next_pose(values: np.ndarray) -> np.ndarray:
    """The same of x, y, z, roll, pitch, yaw: angles go the short way round."""
    change = _to_next(values)
    return np.concatenate((change[:, :3], wrapped(change[:, 3:])), axis=1)


def _euler_of(values: np.ndarray, form: str) -> np.ndarray:
    return convert(values, form, "euler")


def _euler_of_xyzw(values: np.ndarray) -> np.ndarray:
    return convert(values[:, [3, 0, 1, 2]], "quaternion", "euler")


def _reordered_euler(values: np.ndarray, axes: str) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return convert(Rotation.from_euler(axes, values).as_matrix().reshape(-1, 9), "matrix", "euler")


STEPS: dict[str, Step] = {
    "clip": lambda values, low, high: np.clip(values, low, high),
    "scale": lambda values, factor: values * factor,
    "range": lambda values, low, high: (values - low) / (high - low),  # low becomes 0, high 1
    "invert_gripper": lambda values: 1.0 - values,
    "binarise_gripper": lambda values: binarised(_single(values))[:, None],
    "absolute_gripper": lambda values: absolute(_single(values))[:, None],
    "pad": lambda values, size: np.pad(values, ((0, 0), (0, int(size)))),
    "to_next": _to_next,
    "to_next_pose": _to_next_pose,
    "euler_of": _euler_of,
    "euler_of_xyzw": _euler_of_xyzw,
    "euler_from": _reordered_euler,
    "wxyz_of_xyzw": lambda values: values[:, [3, 0, 1, 2]],
}
CONSTANTS = ("zeros", "ones")


def step(name: str, arguments: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """The step of that name with its arguments. Raises ValueError where there is none, or a form of rotation is not known."""
    if name not in STEPS:
        raise ValueError(f"there is no step {name!r}; {suggestion(name, tuple(STEPS))}")
    if name == "euler_of":
        width(*arguments)
    given = [one if name.startswith("euler") else float(one) for one in arguments]
    return lambda values: STEPS[name](values, *given)
