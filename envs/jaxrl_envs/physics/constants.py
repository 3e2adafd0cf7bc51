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


def _dof_groups(model: engine.Model) -> np.ndarray:
    """[nv, nv] averages over the axes that share one weight: those of a ball, the translations and the rotations of a free joint."""
    sizes = {"FREE": (3, 3), "BALL": (3,), "SLIDE": (1,), "HINGE": (1,)}
    lengths = [n for kind in model.jnt_type for n in sizes[mujoco.mjtJoint(kind).name.removeprefix("mjJNT_")]]
    group = np.repeat(np.arange(len(lengths)), lengths)
    same = (group[:, None] == group[None, :]).astype(np.float32)
    return same / np.maximum(same.sum(1, keepdims=True), 1)


def _at_reference(model: engine.Model, data: engine.Data) -> engine.Data:
    """`data` with positions, tendons, the mass matrix and the actuators' moments at `qpos0`."""
    data = data.replace(qpos=model.qpos0)
    for stage in (engine.kinematics, engine.com_pos, engine.tendon, engine.crb, engine.tendon_armature, engine.transmission):
        data = stage(model, data)
    return data


def _inverse(mass_matrix: Array) -> Array:
    """Inverse of a mass matrix, which holds kg beside kg m^2: scaled to a unit diagonal first, to keep float32's digits."""
    scale = jax.lax.rsqrt(jnp.diagonal(mass_matrix))
    scales = scale[:, None] * scale[None, :]
    factor = jax.scipy.linalg.cho_factor(mass_matrix * scales)
    return jax.scipy.linalg.cho_solve(factor, jnp.eye(mass_matrix.shape[0])) * scales


def _body_weights(model: engine.Model, data: engine.Data, inverse: Array) -> Array:
    """[nbody, 2] inverse inertia at each centre of mass against forces [1/kg] and torques [1/(kg m^2)], averaged over the axes."""
    moves = _ancestors(model)[:, model.dof_bodyid][:, :, None]  # [nbody, nv, 1]
    offset = data.xipos - data.subtree_com[model.body_rootid]
    turn, shift = data.cdof[None, :, :3], data.cdof[None, :, 3:]
    jacobians = (moves * (shift + jnp.cross(turn, offset[:, None, :])), moves * turn)
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
    mass_matrix = engine.full_m(model, data)
    inverse = _inverse(mass_matrix)
    tendons = data._impl.ten_J
    moments = data._impl.actuator_moment
    return out | {
        "dof_M0": jnp.diagonal(mass_matrix),
        "dof_invweight0": _dof_groups(model) @ jnp.diagonal(inverse),
        "body_invweight0": _body_weights(model, data, inverse),
        "tendon_invweight0": jnp.einsum("ti,ij,tj->t", tendons, inverse, tendons, precision="highest"),
        "actuator_acc0": jnp.linalg.norm(jnp.matmul(moments, inverse, precision="highest"), axis=1),
    }
