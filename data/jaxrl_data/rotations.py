"""Rotations between the ways of writing them down, on arrays of any leading axes.

euler          3  roll, pitch, yaw [rad] about the fixed axes x, y, z in this order
quaternion     4  w, x, y, z, of length 1; w is not negative on the way out
vector         3  axis times angle [rad]
matrix         9  row after row
rotation_6d    6  the first two columns of the matrix, one after the other; Zhou et al. 2019, "On the Continuity of Rotation
                  Representations in Neural Networks", equation 15: whatever a network writes here is made a rotation on the way back
"""

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

from jaxrl.ops.suggestion import suggestion


def _from_matrix(flat: np.ndarray) -> Rotation:
    return Rotation.from_matrix(flat.reshape(-1, 3, 3))


def _from_6d(flat: np.ndarray) -> Rotation:
    """Gram-Schmidt. Raises ValueError where the two columns span no plane."""
    first, second = flat[:, :3], flat[:, 3:]
    length = np.linalg.norm(first, axis=-1, keepdims=True)
    x = first / np.where(length > 0, length, 1.0)
    rest = second - np.sum(x * second, axis=-1, keepdims=True) * x
    width = np.linalg.norm(rest, axis=-1, keepdims=True)
    if not (np.all(length > 1e-8) and np.all(width > 1e-8)):
        raise ValueError("rotation_6d: two columns that span no plane are no rotation")
    y = rest / width
    return Rotation.from_matrix(np.stack((x, y, np.cross(x, y)), axis=-1))


def _to_6d(rotation: Rotation) -> np.ndarray:
    return rotation.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)


def _to_quaternion(rotation: Rotation) -> np.ndarray:
    return rotation.as_quat(canonical=True, scalar_first=True)


def _to_euler(rotation: Rotation) -> np.ndarray:
    """As scipy's, except that scipy warns of pitch = 90 degrees, where yaw is free and it takes yaw = 0, as is usual."""
    matrix = rotation.as_matrix()
    pitch = np.arctan2(-matrix[:, 2, 0], np.hypot(matrix[:, 0, 0], matrix[:, 1, 0]))
    locked = np.hypot(matrix[:, 0, 0], matrix[:, 1, 0]) < 1e-7
    roll = np.where(locked, np.arctan2(-matrix[:, 1, 2], matrix[:, 1, 1]), np.arctan2(matrix[:, 2, 1], matrix[:, 2, 2]))
    yaw = np.where(locked, 0.0, np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]))
    return np.stack((roll, pitch, yaw), axis=-1)


READ: dict[str, Callable[[np.ndarray], Rotation]] = {
    "euler": lambda flat: Rotation.from_euler("xyz", flat),
    "quaternion": lambda flat: Rotation.from_quat(flat, scalar_first=True),
    "vector": Rotation.from_rotvec,
    "matrix": _from_matrix,
    "rotation_6d": _from_6d,
}
WRITE: dict[str, Callable[[Rotation], np.ndarray]] = {
    "euler": _to_euler,
    "quaternion": _to_quaternion,
    "vector": lambda rotation: rotation.as_rotvec(),
    "matrix": lambda rotation: rotation.as_matrix().reshape(-1, 9),
    "rotation_6d": _to_6d,
}
WIDTH = {"euler": 3, "quaternion": 4, "vector": 3, "matrix": 9, "rotation_6d": 6}
NAMES = {
    "euler": ("roll", "pitch", "yaw"),
    "quaternion": ("qw", "qx", "qy", "qz"),
    "vector": ("rx", "ry", "rz"),
    "matrix": tuple(f"r{row}{column}" for row in "123" for column in "123"),
    "rotation_6d": tuple(f"r{row}{column}" for column in "12" for row in "123"),
}
UNIT = {"euler": "rad", "quaternion": "1", "vector": "rad", "matrix": "1", "rotation_6d": "1"}


def width(form: str) -> int:
    """Numbers that a form takes. Raises ValueError where it is not known."""
    if form not in WIDTH:
        raise ValueError(f"{form} is no way to write a rotation; {suggestion(form, tuple(WIDTH))}")
    return WIDTH[form]


def read(values: np.ndarray, form: str) -> Rotation:
    """`values` [..., D] as one scipy Rotation of N = the product of the leading axes. Raises ValueError where D does not fit."""
    size = width(form)
    if values.shape[-1] != size:
        raise ValueError(f"{form} takes {size} numbers, not {values.shape[-1]}")
    return READ[form](np.asarray(values, np.float64).reshape(-1, size))


def write(rotation: Rotation, form: str, leading: tuple[int, ...]) -> np.ndarray:
    """float64 [*leading, D]."""
    return WRITE[form](rotation).reshape(*leading, width(form))


def convert(values: np.ndarray, before: str, after: str) -> np.ndarray:
    """`values` [..., D] of one form in another, float32 [..., D']."""
    return write(read(values, before), after, values.shape[:-1]).astype(np.float32)


def wrapped(angles: np.ndarray) -> np.ndarray:
    """Angles [rad] in [-pi, pi)."""
    return (angles + np.pi) % (2 * np.pi) - np.pi
