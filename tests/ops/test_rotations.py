"""Rotations against scipy's, and their derivatives where formulas divide by 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxrl.ops import rotations
from jaxrl.ops.rotations import WIDTH, angle_between, convert, multiply, orthonormal, read, rotate, write

FORMS = tuple(WIDTH)
# Where formulas divide by 0: no rotation, half turns, and pitch at a right angle.
SPECIAL = {
    "none": np.zeros(3),
    "half_x": [np.pi, 0, 0],
    "half_y": [0, np.pi, 0],
    "half_z": [0, 0, np.pi],
    "half_between": [np.pi * 0.6, np.pi * 0.8, 0],
    "up": [0, np.pi / 2, 0],
    "down": [0, -np.pi / 2, 0],
}
TURNED = Rotation.concatenate((Rotation.from_rotvec(list(SPECIAL.values())), Rotation.random(50, rng=0)))


def written(rotation: Rotation, form: str) -> np.ndarray:
    """By scipy."""
    matrix = rotation.as_matrix()
    return {
        "euler": lambda: rotation.as_euler("xyz"),
        "quaternion": lambda: rotation.as_quat(canonical=True, scalar_first=True),
        "vector": rotation.as_rotvec,
        "matrix": lambda: matrix.reshape(-1, 9),
        "rotation_6d": lambda: np.concatenate((matrix[:, :, 0], matrix[:, :, 1]), -1),
    }[form]()


@jax.jit
def all_read(given):
    """By form: quaternions, and their derivatives by what was read."""
    return {form: (read(values, form), jax.vmap(jax.jacrev(lambda v, f=form: read(v, f)))(values)) for form, values in given.items()}


@jax.jit
def all_written(quaternions):
    """By form: what is written of quaternions [N, 4], and its derivatives."""
    return {form: (write(quaternions, form), jax.vmap(jax.jacrev(lambda q, f=form: write(q, f)))(quaternions)) for form in FORMS}


@pytest.mark.parametrize(("wide", "tolerance"), [(True, 1e-12), (False, 3e-6)])
def test_every_form_is_read_and_written_as_scipy_does(wide, tolerance):
    forms = {form: written(TURNED[len(SPECIAL) :], form) for form in FORMS}
    with jax.enable_x64(wide):
        told = all_written(-jnp.asarray(written(TURNED, "quaternion")))
        for form, (found, _) in told.items():
            # Angles grow uncertain towards a pitch of 90 degrees.
            allowed = tolerance * (100 if form == "euler" else 1)
            np.testing.assert_allclose(found[len(SPECIAL) :], forms[form], atol=allowed, err_msg=form)
        for form, (found, _) in all_read({form: values for form, (values, _) in told.items()}).items():
            assert found.dtype == (jnp.float64 if wide else jnp.float32)
            found = found[len(SPECIAL) :]
            np.testing.assert_allclose(found * np.sign(found[:, :1]), forms["quaternion"], atol=tolerance, err_msg=form)


def test_special_rotations_go_through_every_form_with_finite_derivatives():
    told = all_written(jnp.asarray(written(TURNED, "quaternion"), jnp.float32))
    back = all_read({form: values for form, (values, _) in told.items()})
    for form in FORMS:
        assert (Rotation.from_quat(back[form][0], scalar_first=True) * TURNED.inv()).magnitude().max() < 2e-6, form
        assert np.isfinite(told[form][1]).all() and np.isfinite(back[form][1]).all(), form
    names = list(SPECIAL)
    np.testing.assert_allclose(told["euler"][0][names.index("up")], [0, np.pi / 2, 0], atol=1e-6)
    np.testing.assert_allclose(told["euler"][0][names.index("down")], [0, -np.pi / 2, 0], atol=1e-6)


def test_yaw_is_0_where_pitch_is_a_right_angle():
    for pitch in (np.pi / 2, -np.pi / 2):
        given = written(Rotation.from_euler("xyz", [[0.3, pitch, 0.5]]), "quaternion")
        roll, _, yaw = np.asarray(write(jnp.asarray(given, jnp.float32), "euler"))[0]
        assert yaw == 0 and roll == pytest.approx(0.3 - np.sign(pitch) * 0.5, abs=1e-6)


def test_derivatives_are_those_of_differences():
    """In double precision, of reading, as matrices, which are smooth."""
    step = 1e-6
    with jax.enable_x64(True):
        told = all_written(-jnp.asarray(written(TURNED, "quaternion")))
        for before in ("vector", "quaternion", "euler", "rotation_6d"):
            given = told[before][0]

            @jax.jit
            def both(given, before=before):
                def matrix(values):
                    return convert(values, before, "matrix")

                def differences(values):
                    return jax.vmap(lambda s: (matrix(values + s) - matrix(values - s)) / (2 * step))(step * jnp.eye(len(values))).T

                return jax.vmap(jax.jacfwd(matrix))(given), jax.vmap(differences)(given)

            slope, expected = both(given)
            np.testing.assert_allclose(slope, expected, atol=1e-6, err_msg=before)


def test_the_logarithm_has_its_derivative_at_both_ends():
    """Turning on at 1 rad/s about the axis lengthens the vector at that rate; at pi, where w is 0, too."""
    for angle in (0.0, 1e-4, 0.03, 1.0, 3.1, np.pi):
        half = np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)])
        half[np.abs(half) < 1e-16] = 0
        rate = np.array([-half[3], 0, 0, half[0]]) / 2
        value, slope = jax.jvp(lambda q: write(q, "vector"), (jnp.asarray(half, jnp.float32),), (jnp.asarray(rate, jnp.float32),))
        np.testing.assert_allclose(value, [0, 0, angle], rtol=1e-6)
        np.testing.assert_allclose(slope, [0, 0, 1], rtol=1e-5)


def test_products_turns_and_angles_are_scipys():
    a, b = Rotation.random(50, rng=1), Rotation.random(50, rng=2)
    points = np.random.default_rng(3).normal(size=(50, 3))
    first, second = (jnp.asarray(written(r, "quaternion"), jnp.float32) for r in (a, b))
    np.testing.assert_allclose(write(multiply(first, second), "quaternion"), written(a * b, "quaternion"), atol=1e-6)
    np.testing.assert_allclose(write(rotations.inverse(first), "quaternion"), written(a.inv(), "quaternion"), atol=1e-6)
    np.testing.assert_allclose(rotate(first, jnp.asarray(points, jnp.float32)), a.apply(points), atol=1e-5)
    np.testing.assert_allclose(rotations.to_matrix(first), a.as_matrix(), atol=1e-6)
    np.testing.assert_allclose(angle_between(first, -second), (a.inv() * b).magnitude(), atol=1e-6)


def test_small_angles_are_exact_and_equal_rotations_have_a_gradient():
    one = jnp.array([0.5, 0.5, 0.5, 0.5])
    near = multiply(one, read(jnp.array([0, 1e-5, 0.0]), "vector"))
    assert float(angle_between(one, near)) == pytest.approx(1e-5, rel=0.02)
    opposite = multiply(one, jnp.array([0.0, 1.0, 0.0, 0.0]))
    assert float(angle_between(one, opposite)) == pytest.approx(np.pi)
    slope = jax.jit(jax.vmap(jax.grad(angle_between), (0, None)))(jnp.stack((one, -one, opposite)), one)
    assert np.isfinite(slope).all()


def check_rotation(matrix, tolerance=1e-6):
    product = np.einsum("...ij,...kj->...ik", matrix, matrix)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=tolerance)
    np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=tolerance)


def test_what_networks_write_becomes_a_rotation_by_gram_schmidt():
    columns = np.random.default_rng(0).normal(size=(100, 6)) * 3
    found = np.asarray(orthonormal(jnp.asarray(columns, jnp.float32)))
    check_rotation(found)
    for got, (first, second) in zip(found, columns.reshape(100, 2, 3), strict=True):
        x = first / np.linalg.norm(first)
        y = second - (x @ second) * x
        y /= np.linalg.norm(y)
        np.testing.assert_allclose(got, np.stack((x, y, np.cross(x, y)), -1), atol=2e-5)


@pytest.mark.parametrize("apart", [1e-2, 1e-4, 1e-6, 1e-8, 0.0])
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_columns_that_are_nearly_parallel_become_a_rotation_too(apart, scale):
    random = np.random.default_rng(0)
    first, across = random.normal(size=(2, 50, 3))
    columns = jnp.asarray(scale * np.concatenate((first, random.choice([-2, 0.5], (50, 1)) * first + apart * across), -1), jnp.float32)
    check_rotation(np.asarray(jax.jit(orthonormal)(columns)))
    slope = jax.jit(jax.grad(lambda c: jnp.sum(orthonormal(c)[..., 1] * jnp.arange(3.0)[None])))(columns)
    assert np.isfinite(slope).all()


def test_columns_of_zeros_become_a_rotation_with_a_gradient():
    columns = jnp.zeros((3, 6)).at[1, :3].set(1.0).at[2, 3:].set(1.0)
    check_rotation(np.asarray(jax.jit(orthonormal)(columns)))
    assert np.isfinite(jax.jit(jax.grad(lambda c: jnp.sum(orthonormal(c) ** 3)))(columns)).all()
    np.testing.assert_array_equal(rotations.normalised(jnp.zeros(4)), [1, 0, 0, 0])


def test_rows_of_vmap_are_those_of_leading_axes():
    given = jnp.asarray(written(Rotation.random(6, rng=4), "rotation_6d"), jnp.float32)
    rows = jax.jit(jax.vmap(lambda v: convert(v, "rotation_6d", "euler")))(given)
    axes = jax.jit(lambda v: convert(v, "rotation_6d", "euler"))(given.reshape(2, 3, 6))
    np.testing.assert_allclose(rows, axes.reshape(6, 3), atol=1e-6)


def test_unknown_forms_and_wrong_widths_are_refused():
    with pytest.raises(ValueError, match="quaternions is no way to write a rotation; did you mean quaternion"):
        read(jnp.zeros(4), "quaternions")
    with pytest.raises(ValueError, match="is no way to write a rotation"):
        write(jnp.zeros(4), "dcm")
    with pytest.raises(ValueError, match="euler takes 3 numbers, not 4"):
        read(jnp.zeros(4), "euler")
