"""The physics parameters of one episode, and how they are drawn.

Parameters are an argument of `Env.reset` and `Env.step`, never a change of the model: each world has its own, new in each episode, and a
privileged critic may see them. `fields` holds what the physics backend needs of them; the rest is read by the task.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.ops.draws import uniforms
from jaxrl.types import Array, Key
from jaxrl_envs.physics import Fields, Physics

Interval = tuple[float, float]


class Parameters(NamedTuple):
    """One episode's physics. What a task does not read has no effect there."""

    friction: Array  # [] sliding friction of everything that collides
    base_mass: Array  # [] kg, added to the base
    base_com: Array  # [3] m, shift of the base's centre of mass
    link_mass: Array  # [nbody] factor on mass and inertia
    motor_gain: Array  # [nu] factor on the actuators' gains
    motor_strength: Array  # [nu] factor on the torque limits
    joint_offset: Array  # [nu] rad, encoder reading minus joint angle
    action_delay: Array  # [] s
    observation_noise: Array  # [] factor on the task's noise levels
    push_velocity: Array  # [] m/s, largest change of the base's velocity by a push
    fields: Fields


@dataclass(frozen=True)
class Ranges:
    """Lowest and highest value of each uniform distribution; None keeps the model's own value. Units as in `Parameters`.

    Numbers with several entries (one per axis, link or joint) are drawn independently.
    """

    friction: Interval | None = None
    base_mass: Interval | None = None
    base_com: Interval | None = None
    link_mass: Interval | None = None
    motor_gain: Interval | None = None
    motor_strength: Interval | None = None
    joint_offset: Interval | None = None
    action_delay: Interval | None = None
    observation_noise: Interval | None = None
    push_velocity: Interval | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            interval = getattr(self, field.name)
            if interval is not None and interval[0] > interval[1]:
                raise ValueError(f"{field.name}: the lower bound {interval[0]} is above the upper bound {interval[1]}")
        for name in ("friction", "link_mass", "motor_gain", "motor_strength", "action_delay", "observation_noise", "push_velocity"):
            interval = getattr(self, name)
            if interval is not None and interval[0] < 0:
                raise ValueError(f"{name}: the lower bound {interval[0]} is negative")


# Which fields of MjModel a range touches; the others stay out of the backends' way.
_TOUCHES = {
    "friction": ("geom_friction",),
    "base_mass": ("body_mass", "body_inertia"),
    "base_com": ("body_ipos",),
    "link_mass": ("body_mass", "body_inertia"),
    "motor_gain": ("actuator_gainprm", "actuator_biasprm"),
    "motor_strength": ("actuator_forcerange",),
}


def _model_fields(model: mujoco.MjModel, base: int, p: Parameters, names: frozenset[str]) -> Fields:
    """The named fields of `model` under `p`; each of the model's shape. `base` is the body that `base_mass` and `base_com` mean."""
    own = {name: jnp.asarray(np.asarray(getattr(model, name), np.float32)) for name in names}
    is_base = (np.arange(model.nbody) == base).astype(np.float32)
    out: Fields = {}
    if "geom_friction" in names:
        collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
        slide = jnp.where(collides, p.friction, own["geom_friction"][:, 0])
        out["geom_friction"] = jnp.concatenate([slide[:, None], own["geom_friction"][:, 1:]], 1)
    if "body_mass" in names:
        mass = own["body_mass"] * p.link_mass + p.base_mass * is_base
        # Added mass has the shape of the base: its inertia grows in proportion.
        ratio = mass / jnp.where(own["body_mass"] > 0, own["body_mass"], 1.0)
        out["body_mass"] = mass
        out["body_inertia"] = own["body_inertia"] * ratio[:, None]
    if "body_ipos" in names:
        out["body_ipos"] = own["body_ipos"] + p.base_com[None, :] * is_base[:, None]
    if "actuator_gainprm" in names:
        out["actuator_gainprm"] = own["actuator_gainprm"] * p.motor_gain[:, None]
        out["actuator_biasprm"] = own["actuator_biasprm"] * p.motor_gain[:, None]
    if "actuator_forcerange" in names:
        out["actuator_forcerange"] = own["actuator_forcerange"] * p.motor_strength[:, None]
    return out


def _own_values(model: mujoco.MjModel) -> Parameters:
    """The model's own parameters, without fields: no noise, no delay, no pushes."""
    colliding = np.flatnonzero((model.geom_contype != 0) | (model.geom_conaffinity != 0))
    priority = model.geom_priority[colliding] if colliding.size else np.zeros(1)
    first = colliding[np.argmax(priority)] if colliding.size else None
    zero = jnp.zeros(())
    return Parameters(
        friction=jnp.asarray(1.0 if first is None else model.geom_friction[first, 0], jnp.float32),
        base_mass=zero,
        base_com=jnp.zeros(3),
        link_mass=jnp.ones(model.nbody),
        motor_gain=jnp.ones(model.nu),
        motor_strength=jnp.ones(model.nu),
        joint_offset=jnp.zeros(model.nu),
        action_delay=zero,
        observation_noise=zero,
        push_velocity=zero,
        fields={},
    )


def nominal(physics: Physics, ranges: Ranges = Ranges()) -> Parameters:
    """The parameters of the model as it is, with the same tree as those drawn from `ranges`."""
    own = _own_values(physics.model)
    names = frozenset(name for key, touched in _TOUCHES.items() if getattr(ranges, key) is not None for name in touched)
    compiled = {name: jnp.asarray(np.asarray(getattr(physics.model, name), np.float32)) for name in sorted(names)}
    return own._replace(fields=physics.derive(compiled))


def distribution(physics: Physics, ranges: Ranges = Ranges(), base: int = 1) -> Callable[[Key], Parameters]:
    """key -> parameters of a new episode, uniform within `ranges`; derived constants follow the drawn values."""
    model = physics.model
    own = _own_values(model)
    drawn = {f.name: getattr(ranges, f.name) for f in fields(ranges) if getattr(ranges, f.name) is not None}
    names = frozenset(name for key in drawn for name in _TOUCHES.get(key, ()))
    sizes = {name: getattr(own, name).size for name in drawn}

    def sample(key: Key) -> Parameters:
        draws = uniforms(key, **sizes)
        values: dict[str, Any] = {
            name: jnp.reshape(low + (high - low) * draws[name], getattr(own, name).shape) for name, (low, high) in drawn.items()
        }
        parameters = own._replace(**values)
        return parameters._replace(fields=physics.derive(_model_fields(model, base, parameters, names)))

    return sample
