"""Poses against homogeneous matrices, and the exponential against scipy's of matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from scipy.spatial.transform import Rotation

from jaxrl.ops import poses
from jaxrl.ops.poses import absolute, compose, exp, interpolate, inverse, log, relative_to


def some(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Poses [count, 7], and their matrices [count, 4, 4] by scipy."""
    turned = Rotation.random(count, rng=seed)
    place = np.random.default_rng(seed).normal(size=(count, 3))
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, :3, :3], matrices[:, :3, 3] = turned.as_matrix(), place
    return np.concatenate((turned.as_quat(scalar_first=True), place), -1), matrices


def of_twist(twist: np.ndarray) -> np.ndarray:
    """The matrix [4, 4] of a twist [6], by the exponential series."""
    generator = np.zeros((4, 4))
    generator[:3, :3] = np.cross(np.eye(3), twist[3:])
    generator[:3, 3] = twist[:3]
    return scipy.linalg.expm(generator)


def same(found: jax.Array, matrices: np.ndarray, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(poses.to_matrix(found), matrices, atol=tolerance)


def test_composition_inverse_and_points_are_those_of_matrices():
    (first, a), (second, b) = some(20, 0), some(20, 1)
    one, other = jnp.asarray(first, jnp.float32), jnp.asarray(second, jnp.float32)
    same(one, a)
    same(compose(one, other), a @ b)
    same(inverse(one), np.linalg.inv(a))
    same(relative_to(one, other), np.linalg.inv(a) @ b)
    same(absolute(one, relative_to(one, other)), b)
    same(poses.from_matrix(jnp.asarray(a, jnp.float32)), a)
    points = np.random.default_rng(2).normal(size=(20, 3))
    moved = np.einsum("nij,nj->ni", a[:, :3, :3], points) + a[:, :3, 3]
    np.testing.assert_allclose(poses.apply(one, jnp.asarray(points, jnp.float32)), moved, atol=1e-5)


def test_exponential_and_logarithm_are_those_of_matrices():
    random = np.random.default_rng(0)
    axes = random.normal(size=(8, 3))
    angles = np.array([0, 1e-6, 1e-3, 3e-3, 0.02, 0.5, 3.1, np.pi])
    twists = np.concatenate((random.normal(size=(8, 3)), angles[:, None] * axes / np.linalg.norm(axes, axis=-1, keepdims=True)), -1)
    found = jax.jit(exp)(jnp.asarray(twists, jnp.float32))
    same(found, np.stack([of_twist(twist) for twist in twists]))
    back = np.array(jax.jit(log)(found))
    back[-1] *= np.sign(back[-1, 3:] @ twists[-1, 3:])  # half a turn goes either way
    np.testing.assert_allclose(back[:-1], twists[:-1], atol=1e-4)
    np.testing.assert_allclose(back[-1, 3:], twists[-1, 3:], atol=1e-4)
    assert np.isfinite(jax.jit(jax.vmap(jax.jacrev(log)))(found)).all()
    assert np.isfinite(jax.jit(jax.vmap(jax.jacrev(exp)))(jnp.asarray(twists, jnp.float32))).all()


def test_the_way_between_poses_is_a_screw_that_turns_the_short_way():
    (first, a), (second, b) = some(10, 3), some(10, 4)
    one, other = (
        jnp.asarray(first, jnp.float32),
        jnp.asarray(-second, jnp.float32).at[:, 4:].multiply(-1),
    )  # the other sign of the quaternion
    shares = jnp.linspace(0, 1, 5)
    way = jax.jit(jax.vmap(interpolate, (None, None, 0)))(one, other, shares)
    same(way[0], a)
    same(way[-1], b)
    steps = np.asarray(relative_to(way[:-1], way[1:]))
    np.testing.assert_allclose(np.abs(steps[0, :, 0]), np.abs(steps[-1, :, 0]), atol=1e-5)
    for number in range(10):
        exact = scipy.linalg.logm(np.linalg.inv(a[number]) @ b[number]).real
        same(way[1, number], a[number] @ scipy.linalg.expm(0.25 * exact), 1e-4)
    turned = Rotation.from_matrix(np.swapaxes(a[:, :3, :3], 1, 2) @ b[:, :3, :3]).magnitude()
    np.testing.assert_allclose(2 * np.arccos(np.abs(steps[0, :, 0])), turned / 4, atol=1e-3)


def test_shares_may_be_one_per_pose():
    one, other = (jnp.asarray(some(3, seed)[0], jnp.float32) for seed in (5, 6))
    found = jax.jit(interpolate)(one, other, jnp.array([0.0, 0.5, 1.0]))
    same(found[0], poses.to_matrix(one[0]))
    same(found[2], poses.to_matrix(other[2]))
    same(found, poses.to_matrix(jax.jit(jax.vmap(interpolate))(one, other, jnp.array([0.0, 0.5, 1.0]))))
