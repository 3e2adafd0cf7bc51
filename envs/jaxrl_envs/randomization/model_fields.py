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
from jaxrl_envs.randomization.parameters import QUANTITIES, Parameters


def compiled_field(model: mujoco.MjModel, name: str) -> Array:
    """The model's own values of a field, float32; options are named "opt.gravity"."""
    return jnp.asarray(own_value(model, name), jnp.float32)


_UNBOUNDED = 1e6  # rad


def model_fields(model: mujoco.MjModel, p: Parameters, drawn: Iterable[str]) -> Fields:
    """The fields of `model` that the parameters named in `drawn` touch, under `p`, each of the model's shape.

    What `p` holds of contacts, which is one number for all of them, counts only where it is drawn: geoms keep their own otherwise.
    """
    drawn = frozenset(drawn)
    names = frozenset(field for name in drawn for field in QUANTITIES[name].touches)
    found: Fields = _contacts(model, p, drawn)
    for group in (_bodies, _joints, _motors):
        found |= group(model, p, names)
    if "opt.gravity" in names:
        found["opt.gravity"] = compiled_field(model, "opt.gravity") + p.gravity
    return {name: found[name] for name in sorted(names)}


# Of contacts: field and columns of each parameter, and whether it is a factor.
_CONTACTS = {
    "friction": ("geom_friction", slice(0, 1), False),
    "friction_torsion": ("geom_friction", slice(1, 3), True),
    "contact_time": ("geom_solref", slice(0, 1), False),
    "contact_damping": ("geom_solref", slice(1, 2), False),
    "contact_width": ("geom_solimp", slice(2, 3), False),
}


def _contacts(model: mujoco.MjModel, p: Parameters, drawn: frozenset[str]) -> Fields:
    collides = jnp.asarray((model.geom_contype != 0) | (model.geom_conaffinity != 0))[:, None]
    out: Fields = {}
    for name, (field, columns, is_factor) in _CONTACTS.items():
        if name in drawn:
            whole = out.get(field, compiled_field(model, field))
            own, new = whole[:, columns], getattr(p, name)
            out[field] = whole.at[:, columns].set(jnp.where(collides, own * new if is_factor else new, own))
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
    out = {name: compiled_field(model, name) * factor[:, None] for name, factor in factors.items() if name in names}
    if "actuator_ctrlrange" in names:  # targets are moved beyond it, see `actuation`
        out["actuator_ctrlrange"] = jnp.tile(jnp.array([-_UNBOUNDED, _UNBOUNDED]), (model.nu, 1))
    return out
