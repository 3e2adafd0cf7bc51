"""What `mj_setConst` derives from masses, inertias, frames and gears, in JAX: the constants of worlds whose model differs.

All are taken at the reference pose `qpos0`. The inverse inertia that a force or torque meets there scales the stiffness and the
regularisation of every constraint, so a world with other masses and the old constants would have other contacts.
"""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.types import Array
from jaxrl_envs.physics._engine import engine
from jaxrl_envs.physics.interface import Fields

# Fields whose change the constants here follow.
FOLLOWED = frozenset(
    "qpos0 body_pos body_quat body_ipos body_iquat body_mass body_inertia jnt_pos jnt_axis dof_armature "
    "site_pos site_quat geom_pos geom_quat actuator_gear tendon_armature".split()
)


def _ancestors(model: engine.Model) -> np.ndarray:
    """[nbody, nbody] 1 where the column is the row or an ancestor of it."""
    out = np.eye(model.nbody, dtype=np.float32)
    for body in range(1, model.nbody):  # parents come first
        out[body] = np.maximum(out[body], out[model.body_parentid[body]])
    return out


def _kinds(model: engine.Model) -> list[str]:
    return [mujoco.mjtJoint(kind).name.removeprefix("mjJNT_") for kind in model.jnt_type]


def _is_sliding(model: engine.Model) -> np.ndarray:
    """[nv] bool: the degrees of freedom that move without turning."""
    sliding = {"FREE": (True,) * 3 + (False,) * 3, "BALL": (False,) * 3, "SLIDE": (True,), "HINGE": (False,)}
    return np.array([moves for kind in _kinds(model) for moves in sliding[kind]], bool)


def _dof_groups(model: engine.Model) -> np.ndarray:
    """[nv, nv] averages over the axes that share one weight: those of a ball, the translations and the rotations of a free joint."""
    sizes = {"FREE": (3, 3), "BALL": (3,), "SLIDE": (1,), "HINGE": (1,)}
    lengths = [n for kind in _kinds(model) for n in sizes[kind]]
    group = np.repeat(np.arange(len(lengths)), lengths)
    same = (group[:, None] == group[None, :]).astype(np.float32)
    return same / np.maximum(same.sum(1, keepdims=True), 1)


def _at_reference(model: engine.Model, data: engine.Data) -> engine.Data:
    """`data` with positions, tendons and the actuators' moments at `qpos0`."""
    data = data.replace(qpos=model.qpos0)
    for stage in (engine.kinematics, engine.com_pos, engine.tendon, engine.transmission):
        data = stage(model, data)
    return data


def _jacobians(model: engine.Model, data: engine.Data) -> tuple[Array, Array]:
    """[nbody, nv, 3] each: how the centres of mass move and how the bodies turn with each degree of freedom."""
    moves = jnp.asarray(_ancestors(model)[:, model.dof_bodyid][:, :, None])  # [nbody, nv, 1]
    turn, shift = data.cdof[None, :, :3], data.cdof[None, :, 3:]
    # From the joint itself: by way of the robot's centre, to which `cdof` refers, a lever would be the small difference of large ones.
    lever = data.xipos[:, None, :] - data.xanchor[model.dof_jntid][None, :, :]
    return moves * jnp.where(_is_sliding(model)[None, :, None], shift, jnp.cross(turn, lever)), moves * turn


def _mass_matrix(model: engine.Model, data: engine.Data, jacobians: tuple[Array, Array]) -> Array:
    """[nv, nv], without the armature of tendons.

    Body by body, about each one's own centre: composite inertias about the centre of the whole robot, as MuJoCo sums them, would cost
    float32 the last two digits of what a hand or a foot weighs.
    """
    shift, turn = jacobians
    local = jnp.einsum("bic,bcd->bid", turn, data.ximat, precision="highest")
    moved = jnp.einsum("bic,b,bjc->ij", shift, model.body_mass, shift, precision="highest")
    turned = jnp.einsum("bic,bc,bjc->ij", local, model.body_inertia, local, precision="highest")
    return moved + turned + jnp.diag(model.dof_armature)


def _tendon_armature(model: engine.Model, tendons: Array) -> Array:
    """[nv, nv] added to the mass matrix; as in MuJoCo, not between degrees of freedom of which neither carries the other."""
    above = _ancestors(model)[model.dof_bodyid][:, model.dof_bodyid]
    return np.maximum(above, above.T) * jnp.einsum("ti,t,tj->ij", tendons, model.tendon_armature, tendons, precision="highest")


def _inverse(mass_matrix: Array) -> Array:
    """Inverse of a mass matrix, which holds kg beside kg m^2: scaled to diagonals near 1 first, to keep float32's digits.

    By powers of two, which round nothing: what rounding the scaled matrix would cost is magnified by its condition, some 250 of a humanoid.
    """
    _, exponent = jnp.frexp(jnp.diagonal(mass_matrix))
    scale = jnp.ldexp(jnp.ones(mass_matrix.shape[0]), -(exponent // 2))
    scales = scale[:, None] * scale[None, :]
    factor = jax.scipy.linalg.cho_factor(mass_matrix * scales)
    return jax.scipy.linalg.cho_solve(factor, jnp.eye(mass_matrix.shape[0])) * scales


def _body_weights(model: engine.Model, jacobians: tuple[Array, Array], inverse: Array) -> Array:
    """[nbody, 2] inverse inertia at each centre of mass against forces [1/kg] and torques [1/(kg m^2)], averaged over the axes."""
    weights = [jnp.einsum("bic,ij,bjc->b", j, inverse, j, precision="highest") / 3 for j in jacobians]
    fixed = np.asarray(model.body_weldid == 0)
    return jnp.where(fixed[:, None], 0.0, jnp.stack(weights, 1))


def constants(model: engine.Model, data: engine.Data) -> Fields:
    """The derived constants of one world, by the names they have in MjModel; `data` is any data of the model, such as a fresh one.

    MuJoCo, engine_setconst.c. Follows changes of the fields in `FOLLOWED`. Differentiable, and cheap beside a step.
    """
    data = _at_reference(model, data)
    out: Fields = {
        "body_subtreemass": _ancestors(model).T @ model.body_mass,
        "tendon_length0": data.ten_length,
    }
    if model.nv == 0:
        return out
    jacobians, tendons = _jacobians(model, data), data._impl.ten_J
    mass_matrix = _mass_matrix(model, data, jacobians)
    inverse = _inverse(mass_matrix + _tendon_armature(model, tendons))
    moments = data._impl.actuator_moment
    return out | {
        "dof_M0": jnp.diagonal(mass_matrix),
        "dof_invweight0": _dof_groups(model) @ jnp.diagonal(inverse),
        "body_invweight0": _body_weights(model, jacobians, inverse),
        "tendon_invweight0": jnp.einsum("ti,ij,tj->t", tendons, inverse, tendons, precision="highest"),
        "actuator_acc0": jnp.linalg.norm(jnp.matmul(moments, inverse, precision="highest"), axis=1),
    }
