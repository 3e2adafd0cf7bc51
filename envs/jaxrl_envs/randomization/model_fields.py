"""What the parameters of an episode make of the model: fields of MjModel, for the physics backend."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import jaxlie
import mujoco

from jaxrl.types import Array
from jaxrl_envs.physics import Fields
from jaxrl_envs.physics.fields import own_value
from jaxrl_envs.randomization.inertia import add_point, principal, rotational_inertia, second_moment, stretch
from jaxrl_envs.randomization.parameters import Parameters


def compiled_field(model: mujoco.MjModel, name: str) -> Array:
    """The model's own values of a field, float32; options are named "opt.gravity"."""
    return jnp.asarray(own_value(model, name), jnp.float32)


def model_fields(model: mujoco.MjModel, p: Parameters, names: Iterable[str]) -> Fields:
    """The named fields of `model` under `p`, each of the model's shape."""
    names = frozenset(names)
    found: Fields = {}
    for group in (_contacts, _bodies, _joints, _motors):
        found |= group(model, p, names)
    if "opt.gravity" in names:
        found["opt.gravity"] = compiled_field(model, "opt.gravity") + p.gravity
    return {name: found[name] for name in sorted(names)}


def _contacts(model: mujoco.MjModel, p: Parameters, names: frozenset[str]) -> Fields:
    collides = jnp.asarray((model.geom_contype != 0) | (model.geom_conaffinity != 0))[:, None]
    own = {name: compiled_field(model, name) for name in ("geom_friction", "geom_solref", "geom_solimp") if name in names}
    out: Fields = {}
    if "geom_friction" in names:
        sliding = jnp.full((model.ngeom, 1), p.friction)
        new = jnp.concatenate([sliding, own["geom_friction"][:, 1:] * p.friction_torsion], 1)
        out["geom_friction"] = jnp.where(collides, new, own["geom_friction"])
    if "geom_solref" in names:
        out["geom_solref"] = jnp.where(collides, jnp.stack([p.contact_time, p.contact_damping])[None, :], own["geom_solref"])
    if "geom_solimp" in names:
        is_width = jnp.arange(own["geom_solimp"].shape[1])[None, :] == 2
        out["geom_solimp"] = jnp.where(collides & is_width, p.contact_width, own["geom_solimp"])
    return out


def _bodies(model: mujoco.MjModel, p: Parameters, names: frozenset[str]) -> Fields:
    if not names & {"body_mass", "body_inertia", "body_ipos", "body_iquat"}:
        return {}
    mass = compiled_field(model, "body_mass") * p.link_mass
    center = compiled_field(model, "body_ipos") + p.center_of_mass
    inertia = compiled_field(model, "body_inertia") * p.link_mass[:, None]
    if "body_iquat" not in names:  # no shape changes: the axes stay
        return {"body_mass": mass, "body_inertia": inertia, "body_ipos": center}
    axes = compiled_field(model, "body_iquat")
    carries = jnp.asarray(model.body_mass > 0)

    def one(mass: Array, center: Array, diagonal: Array, axes: Array, *of: Array) -> tuple[Array, ...]:
        coordinates, point_mass, place = of
        turn = jaxlie.SO3(axes).as_matrix()
        shaped = turn @ stretch(coordinates)
        moments = shaped @ second_moment(jnp.diag(diagonal)) @ shaped.T
        mass, center, moments = add_point(mass, center, moments, point_mass, place)
        return mass, center, *principal(rotational_inertia(moments))

    with jax.default_matmul_precision("highest"):
        total, middle, diagonal, quaternion = jax.vmap(one)(mass, center, inertia, axes, p.inertia, p.payload, p.payload_place)
    return {
        "body_mass": total,
        "body_ipos": middle,
        "body_inertia": jnp.where(carries[:, None], diagonal, inertia),
        "body_iquat": jnp.where(carries[:, None], quaternion, axes),
    }


def _joints(model: mujoco.MjModel, p: Parameters, names: frozenset[str]) -> Fields:
    """A joint's factor holds for each of its degrees of freedom."""
    factors = {"dof_damping": p.joint_damping, "dof_frictionloss": p.joint_friction, "dof_armature": p.armature}
    return {name: compiled_field(model, name) * factor[model.dof_jntid] for name, factor in factors.items() if name in names}


def _motors(model: mujoco.MjModel, p: Parameters, names: frozenset[str]) -> Fields:
    factors = {"actuator_gainprm": p.motor_gain, "actuator_biasprm": p.motor_gain, "actuator_forcerange": p.motor_strength}
    return {name: compiled_field(model, name) * factor[:, None] for name, factor in factors.items() if name in names}
