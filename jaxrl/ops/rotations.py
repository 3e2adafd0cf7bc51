"""Rotations between the ways of writing them down, on arrays of any leading axes; derivatives are finite everywhere.

euler          3  roll, pitch, yaw [rad] about the fixed axes x, y, z in this order, so the matrix is Rz(yaw) Ry(pitch) Rx(roll); where
                  pitch is a right angle, yaw is 0 on the way out
quaternion     4  w, x, y, z; of length 1 and w not negative on the way out
vector         3  axis times angle [rad], at most pi long on the way out
matrix         9  row after row
rotation_6d    6  the first two columns of the matrix, one after the other (Zhou et al. 2019, https://arxiv.org/abs/1812.07035)

`read` and `write` go from and to quaternions, `convert` through them. These are the forms of `jaxrl_data.rotations`, which has them for
numpy and in float64.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jaxlie

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Array

WIDTH = {"euler": 3, "quaternion": 4, "vector": 3, "matrix": 9, "rotation_6d": 6}


def width(form: str) -> int:
    """Numbers that a form takes. Raises ValueError where it is not known."""
    if form not in WIDTH:
        raise ValueError(f"{form} is no way to write a rotation; {suggestion(form, tuple(WIDTH))}")
    return WIDTH[form]


def read(values: Array, form: str) -> Array:
    """`values` [..., D] as quaternions [..., 4], of length 1 and of either sign. Raises ValueError where D does not fit."""
    size = width(form)
    if values.shape[-1] != size:
        raise ValueError(f"{form} takes {size} numbers, not {values.shape[-1]}")
    return _READ[form](values)


def write(quaternion: Array, form: str) -> Array:
    """Quaternions [..., 4] of length 1 in a form, [..., D]."""
    width(form)
    return _WRITE[form](quaternion)


def convert(values: Array, before: str, after: str) -> Array:
    """`values` [..., D] of one form in another, [..., D']."""
    return write(read(values, before), after)


def multiply(first: Array, second: Array) -> Array:
    """The rotation `second` and then `first`, as quaternions [..., 4]."""
    # Component by component: jaxlie's outer product takes a forward kinematics of ten joints eight times as long on a CPU.
    w, x, y, z = _components(first)
    a, b, c, d = _components(second)
    products = (w * a - x * b - y * c - z * d, w * b + x * a + y * d - z * c, w * c - x * d + y * a + z * b, w * d + x * c - y * b + z * a)
    return jnp.stack(products, -1)


def inverse(quaternion: Array) -> Array:
    """[..., 4]."""
    return jnp.concatenate((quaternion[..., :1], -quaternion[..., 1:]), -1)


def rotate(quaternion: Array, vector: Array) -> Array:
    """Vectors [..., 3] turned by quaternions [..., 4] of length 1."""
    w, x, y, z = _components(quaternion)
    a, b, c = _components(vector)
    d, e, f = 2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)
    return jnp.stack((a + w * d + y * f - z * e, b + w * e + z * d - x * f, c + w * f + x * e - y * d), -1)


def angle_between(first: Array, second: Array) -> Array:
    """The angle [...] rad, from 0 to pi, between rotations as quaternions [..., 4]; its gradient is 0 where it has a kink, at 0 and pi."""
    between = multiply(inverse(first), second)
    return 2 * jnp.arctan2(length(between[..., 1:]), jnp.abs(between[..., 0]))


def to_matrix(quaternion: Array) -> Array:
    """[..., 3, 3]."""
    w, x, y, z = _components(quaternion)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def from_matrix(matrix: Array) -> Array:
    """Matrices [..., 3, 3], which are taken to be rotations, as quaternions [..., 4]."""
    return normalised(jnp.vectorize(lambda m: jaxlie.SO3.from_matrix(m).wxyz, signature="(3,3)->(4)")(matrix))


def orthonormal(columns: Array) -> Array:
    """Matrices [..., 3, 3] from any two columns one after the other, [..., 6], by Gram-Schmidt; Zhou et al. 2019, equation 15.

    What is given is a rotation to rounding errors, whatever the columns. Where they span no plane, the one of the two that is missing
    is an axis chosen by the function, and has no gradient; where they nearly span none, the gradient is as large as they are parallel.
    """
    return jnp.vectorize(_gram_schmidt, signature="(6)->(3,3)")(columns)


def normalised(quaternion: Array) -> Array:
    """Quaternions [..., 4] of any length as ones of length 1; those of length 0 as the identity, as in MuJoCo."""
    return _unit(quaternion, jnp.zeros_like(quaternion).at[..., 0].set(1))


def _gram_schmidt(columns: Array) -> Array:
    """[6] to [3, 3]."""
    x = _unit(columns[:3], jnp.eye(3, dtype=columns.dtype)[0])
    given = _unit(columns[3:], x)
    # A reduction, which XLA works out once. Where the columns are nearly parallel, little but rounding errors is left: if y and z were
    # computed from a difference each, which two loops may round in two ways, they would not be at right angles.
    across = jnp.sum((jnp.eye(3, dtype=x.dtype) - jnp.outer(x, x)) * given[None], axis=-1)
    least = jax.nn.one_hot(jnp.argmin(jnp.abs(x)), 3, dtype=x.dtype)
    parallel = _dot(across, across) < (16 * jnp.finfo(x.dtype).eps) ** 2
    y = _unit(jnp.where(parallel, least, across), x)
    y = _unit(y - _dot(x, y) * x, x)  # once more, without what rounding left along x
    return jnp.stack((x, y, jnp.cross(x, y)), -1)


def _components(array: Array) -> list[Array]:
    return [array[..., i] for i in range(array.shape[-1])]


def _dot(first: Array, second: Array) -> Array:
    return jnp.sum(first * second, axis=-1, keepdims=True)


def length(vector: Array) -> Array:
    """[..., n] to [...]; its gradient at 0 is 0."""
    square = jnp.sum(vector * vector, axis=-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _unit(vector: Array, otherwise: Array) -> Array:
    """`vector` [..., n] of length 1; `otherwise`, of length 1, where it is too short to be divided by."""
    # By its largest entry first, whose square neither vanishes nor overflows.
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(vector), axis=-1, keepdims=True))
    there = size > 16 * jnp.finfo(vector.dtype).tiny
    scaled = jnp.where(there, vector, otherwise) / jnp.where(there, size, 1)
    return scaled / jnp.sqrt(_dot(scaled, scaled))


def _canonical(quaternion: Array) -> Array:
    """Of both signs the one whose first number that is not 0 is positive."""
    w, x, y, z = _components(quaternion)
    first = jnp.where(w != 0, w, jnp.where(x != 0, x, jnp.where(y != 0, y, z)))
    return jnp.where(first[..., None] < 0, -quaternion, quaternion)


def _from_euler(angles: Array) -> Array:
    return jnp.vectorize(lambda angles: jaxlie.SO3.from_rpy_radians(*angles).wxyz, signature="(3)->(4)")(angles)


def _angle(y: Array, x: Array) -> tuple[Array, Array]:
    """atan2(y, x), and whether there is such an angle; where there is none it is 0, without a gradient."""
    there = y * y + x * x > (8 * jnp.finfo(y.dtype).eps) ** 2
    return jnp.arctan2(jnp.where(there, y, 0), jnp.where(there, x, 1)), there


def _to_euler(quaternion: Array) -> Array:
    """From half the sum and half the difference of roll and yaw, each of which is exact where the other one means nothing.

    Bernardes and Viollet 2022, https://doi.org/10.1371/journal.pone.0276302.
    """
    w, x, y, z = _components(quaternion)
    sums, has_sum = _angle(x + z, w - y)
    differences, has_difference = _angle(x - z, w + y)
    sums, differences = jnp.where(has_sum, sums, differences), jnp.where(has_difference, differences, sums)
    pitch = jnp.pi / 2 - 2 * jnp.arctan2(length(jnp.stack((w - y, x + z), -1)), length(jnp.stack((w + y, x - z), -1)))
    angles = jnp.stack((sums + differences, pitch, sums - differences), -1)
    return angles - 2 * jnp.pi * jnp.round(angles / (2 * jnp.pi))


def _from_vector(vector: Array) -> Array:
    return jnp.vectorize(lambda tangent: jaxlie.SO3.exp(tangent).wxyz, signature="(3)->(4)")(vector)


def _to_vector(quaternion: Array) -> Array:
    # Not jaxlie's logarithm, whose derivative is wrong at pi: there it leaves out w.
    quaternion = _canonical(quaternion)
    w, axis = quaternion[..., :1], quaternion[..., 1:]
    square = _dot(axis, axis)
    small = square < jnp.finfo(quaternion.dtype).eps ** 0.5
    sine, cosine = jnp.sqrt(jnp.where(small, 1, square)), jnp.where(small, w, 1)
    series = (2 - 2 / 3 * square / cosine**2) / cosine
    return axis * jnp.where(small, series, 2 * jnp.arctan2(sine, w) / sine)


_READ: dict[str, Callable[[Array], Array]] = {
    "euler": _from_euler,
    "quaternion": normalised,
    "vector": _from_vector,
    "matrix": lambda flat: from_matrix(flat.reshape(*flat.shape[:-1], 3, 3)),
    "rotation_6d": lambda columns: from_matrix(orthonormal(columns)),
}
_WRITE: dict[str, Callable[[Array], Array]] = {
    "euler": _to_euler,
    "quaternion": _canonical,
    "vector": _to_vector,
    "matrix": lambda quaternion: to_matrix(quaternion).reshape(*quaternion.shape[:-1], 9),
    "rotation_6d": lambda quaternion: jnp.swapaxes(to_matrix(quaternion)[..., :2], -1, -2).reshape(*quaternion.shape[:-1], 6),
}
