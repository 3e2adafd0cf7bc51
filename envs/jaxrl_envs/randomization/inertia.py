"""Changes of mass and inertia that stay those of some body: no negative mass, no inertia that no body could have."""

import jax.numpy as jnp
import jaxlie

from jaxrl.types import Array


def second_moment(inertia: Array) -> Array:
    """The second moments of mass [3, 3] that belong to rotational inertia [3, 3], both about one point [kg m^2], and the other way round.

    Sigma = tr(I)/2 1 - I, and I = tr(Sigma) 1 - Sigma (Wensing et al. 2018, https://arxiv.org/abs/1701.04395). A body exists if
    and only if Sigma is positive semidefinite.
    """
    return jnp.trace(inertia) / 2 * jnp.eye(3) - inertia


def rotational_inertia(moments: Array) -> Array:
    """The inverse of `second_moment`."""
    return jnp.trace(moments) * jnp.eye(3) - moments


def stretch(coordinates: Array) -> Array:
    """The map [3, 3] with the log-Cholesky coordinates [6]: logarithms of the stretch along x, y and z, and the shears xy, yz and xz.

    Rucker & Wensing 2022, https://doi.org/10.1109/LRA.2021.3139386, without mass and centre of mass, which are parameters of
    their own here. A body whose matter is moved by any such map is again a body.
    """
    log_x, log_y, log_z, xy, yz, xz = coordinates
    zero = jnp.zeros(())
    rows = [[jnp.exp(log_x), xy, xz], [zero, jnp.exp(log_y), yz], [zero, zero, jnp.exp(log_z)]]
    return jnp.stack([jnp.stack(row) for row in rows])


def add_point(mass: Array, center: Array, moments: Array, point_mass: Array, place: Array) -> tuple[Array, Array, Array]:
    """Mass [], centre of mass [3] and second moments about it [3, 3] of a body that carries a point mass at `place` [3].

    Parallel axes; a body without mass stays where it is.
    """
    total = mass + point_mass
    share = point_mass / jnp.where(total > 0, total, 1.0)
    offset = place - center
    return total, center + share * offset, moments + mass * share * jnp.outer(offset, offset)


def principal(inertia: Array) -> tuple[Array, Array]:
    """The principal moments [3] of rotational inertia [3, 3] and the rotation of their axes, a quaternion wxyz [4]."""
    moments, axes = jnp.linalg.eigh(inertia)
    axes = axes * jnp.where(jnp.linalg.det(axes) < 0, -1.0, 1.0)  # three axes that can be turned into x, y, z
    return moments, jaxlie.SO3.from_matrix(axes).wxyz
