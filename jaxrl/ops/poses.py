"""Poses, elements of SE(3): arrays [..., 7] of a quaternion w, x, y, z of length 1 and a position x, y, z [m] behind it.

A pose takes points from its own frame to the one that it is told in. Twists are arrays [..., 6], linear before angular.
"""

import jax
import jax.numpy as jnp
import jaxlie

from jaxrl.ops import rotations
from jaxrl.types import Array


def compose(first: Array, second: Array) -> Array:
    """`second` [..., 7], told in the frame of `first` [..., 7], in the frame that `first` is told in."""
    turn = first[..., :4]
    return jnp.concatenate((rotations.multiply(turn, second[..., :4]), first[..., 4:] + rotations.rotate(turn, second[..., 4:])), -1)


def inverse(pose: Array) -> Array:
    """[..., 7]."""
    back = rotations.inverse(pose[..., :4])
    return jnp.concatenate((back, -rotations.rotate(back, pose[..., 4:])), -1)


def apply(pose: Array, points: Array) -> Array:
    """Points [..., 3] of the pose's own frame in the one that it is told in."""
    return pose[..., 4:] + rotations.rotate(pose[..., :4], points)


def relative_to(base: Array, pose: Array) -> Array:
    """`pose` [..., 7] as seen from `base` [..., 7]: actions told from the gripper as it is when they are chosen.

    Chi et al. 2024, "Universal Manipulation Interface", https://arxiv.org/abs/2402.10329, section 3.2.
    """
    return compose(inverse(base), pose)


def absolute(base: Array, relative: Array) -> Array:
    """What `relative_to` undoes: `relative` [..., 7], seen from `base` [..., 7], in the frame that `base` is told in."""
    return compose(base, relative)


def exp(twist: Array) -> Array:
    """The pose [..., 7] that the twist [..., 6] in m and rad leads to, held for one unit of time in the moving frame."""
    with jax.default_matmul_precision("highest"):
        return jnp.vectorize(lambda twist: jaxlie.SE3.exp(twist).wxyz_xyz, signature="(6)->(7)")(twist)


def log(pose: Array) -> Array:
    """The shortest twist [..., 6] in m and rad whose `exp` is the pose [..., 7]."""
    with jax.default_matmul_precision("highest"):
        return jnp.vectorize(lambda pose: jaxlie.SE3(pose).log(), signature="(7)->(6)")(pose)


def interpolate(first: Array, second: Array, share: Array | float) -> Array:
    """On the way from `first` (share 0) to `second` (share 1), both [..., 7], at a constant twist: along a screw, turning the short way."""
    share = jnp.asarray(share, first.dtype)
    return compose(first, exp(share[..., None] * log(relative_to(first, second))))


def to_matrix(pose: Array) -> Array:
    """Homogeneous matrices [..., 4, 4]."""
    upper = jnp.concatenate((rotations.to_matrix(pose[..., :4]), pose[..., 4:, None]), -1)
    last = jnp.broadcast_to(jnp.array([0, 0, 0, 1], pose.dtype), (*pose.shape[:-1], 1, 4))
    return jnp.concatenate((upper, last), -2)


def from_matrix(matrix: Array) -> Array:
    """Homogeneous matrices [..., 4, 4] as poses [..., 7]."""
    return jnp.concatenate((rotations.from_matrix(matrix[..., :3, :3]), matrix[..., :3, 3]), -1)
