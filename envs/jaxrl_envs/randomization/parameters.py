"""The physics parameters of one episode: their names, units and meaning.

Parameters are an argument of `Env.reset` and `Env.step`, never a change of the model: each world has its own, new in each episode, and a
privileged critic may see them. `fields` holds what the physics backend needs of them; the rest is read by the task.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Array
from jaxrl_envs.physics import Fields
from jaxrl_envs.randomization.ranges import Interval, Range

Drawn = Interval | Range | dict[str, Interval | Range] | None


class Parameters(NamedTuple):
    """One episode's physics, float32. What a task does not read has no effect there. Units are in `QUANTITIES`."""

    # the world
    friction: Array  # [] sliding friction of everything that collides
    friction_torsion: Array  # [] factor on its torsional and rolling friction
    contact_time: Array  # [] s, time constant of contacts
    contact_damping: Array  # [] damping ratio of contacts
    contact_width: Array  # [] m, depth over which a contact reaches its full stiffness
    gravity: Array  # [3] m/s^2, added to the model's
    terrain: Array  # [] difficulty of the ground, 0 flat to 1 hardest
    push_velocity: Array  # [] m/s, largest change of the base's velocity by a push
    # bodies
    link_mass: Array  # [nbody] factor on mass, and on inertia with it
    inertia: Array  # [nbody, 6] log-Cholesky coordinates of the mass distribution about its centre (see `inertia.stretch`)
    center_of_mass: Array  # [nbody, 3] m, shift in the body's frame
    payload: Array  # [nbody] kg, a point mass that the body carries
    payload_place: Array  # [nbody, 3] m, where, in the body's frame
    # joints
    joint_damping: Array  # [njnt] factor
    joint_friction: Array  # [njnt] factor on the friction loss
    armature: Array  # [njnt] factor
    # motors
    motor_gain: Array  # [nu] factor on gain and bias
    motor_strength: Array  # [nu] factor on the torque limits
    motor_speed: Array  # [nu] rad/s at which a motor has no torque left; its limit falls linearly towards it
    deadband: Array  # [nu] N m, wanted torques below it have no effect
    backlash: Array  # [nu] rad, play of the gears
    joint_offset: Array  # [nu] rad, encoder reading minus joint angle
    # commands on their way to the motors
    action_delay: Array  # [] s
    action_jitter: Array  # [] s, largest change of the delay from step to step
    action_drop: Array  # [] probability that a step's command is lost; the motors hold the last one
    # measurements on their way to the policy
    observation_noise: Array  # [] factor on the task's noise levels
    observation_drift: Array  # [] factor on the task's rates of bias drift
    observation_resolution: Array  # [] factor on the steps in which sensors count
    observation_delay: Array  # [] s
    observation_drop: Array  # [] probability that a step's measurements are lost; the policy sees the last ones
    fields: Fields


@dataclass(frozen=True)
class Quantity:
    """What a parameter is: one number (or vector) for the world, or for each body, joint or motor."""

    unit: str
    of: Literal["world", "body", "joint", "motor"] = "world"
    parts: tuple[str, ...] = ()  # of the vector that each entry is; () for a number
    nominal: float = 0.0
    lowest: float = -np.inf
    highest: float = np.inf
    open_end: bool = False  # `lowest` itself is refused too
    must_be_named: bool = False  # what has no natural default among the entries
    touches: tuple[str, ...] = ()  # fields of MjModel; others stay out of the backends' way
    is_read: bool = False  # by the task, without which it has no effect; so is what touches nothing


_XYZ = ("x", "y", "z")
_MASS = ("body_mass", "body_inertia")
_FRAME = ("body_mass", "body_inertia", "body_iquat", "body_ipos")
_SHEARS = ("log_x", "log_y", "log_z", "xy", "yz", "xz")


def _factor(of: Literal["world", "body", "joint", "motor"], touches: tuple[str, ...], open_end: bool = False) -> Quantity:
    return Quantity("1", of, nominal=1.0, lowest=0.0, open_end=open_end, touches=touches)


def _share() -> Quantity:
    return Quantity("1", lowest=0.0, highest=1.0)


QUANTITIES: dict[str, Quantity] = {
    "friction": Quantity("1", lowest=0.0, touches=("geom_friction",)),
    "friction_torsion": _factor("world", ("geom_friction",)),
    "contact_time": Quantity("s", lowest=0.0, open_end=True, touches=("geom_solref",)),
    "contact_damping": Quantity("1", lowest=0.0, open_end=True, touches=("geom_solref",)),
    "contact_width": Quantity("m", lowest=0.0, open_end=True, touches=("geom_solimp",)),
    "gravity": Quantity("m/s^2", parts=_XYZ, touches=("opt.gravity",)),
    "terrain": _share(),
    "push_velocity": Quantity("m/s", lowest=0.0),
    "link_mass": Quantity("1", "body", nominal=1.0, lowest=0.01, touches=_MASS),  # bodies of hardly any mass make physics diverge
    "inertia": Quantity("1", "body", parts=_SHEARS, touches=("body_inertia", "body_iquat")),
    "center_of_mass": Quantity("m", "body", parts=_XYZ, touches=("body_ipos",)),
    "payload": Quantity("kg", "body", lowest=0.0, must_be_named=True, touches=_FRAME),
    "payload_place": Quantity("m", "body", parts=_XYZ, must_be_named=True, touches=_FRAME),
    "joint_damping": _factor("joint", ("dof_damping",)),
    "joint_friction": _factor("joint", ("dof_frictionloss",)),
    "armature": _factor("joint", ("dof_armature",)),
    "motor_gain": _factor("motor", ("actuator_gainprm", "actuator_biasprm")),
    "motor_strength": _factor("motor", ("actuator_forcerange",)),
    "motor_speed": Quantity("rad/s", "motor", nominal=np.inf, lowest=0.0, open_end=True, touches=("actuator_ctrlrange",), is_read=True),
    "deadband": Quantity("N m", "motor", lowest=0.0, touches=("actuator_ctrlrange",), is_read=True),
    "backlash": Quantity("rad", "motor", lowest=0.0),
    "joint_offset": Quantity("rad", "motor"),
    "action_delay": Quantity("s", lowest=0.0),
    "action_jitter": Quantity("s", lowest=0.0),
    "action_drop": _share(),
    "observation_noise": Quantity("1", lowest=0.0),
    "observation_drift": Quantity("1", lowest=0.0),
    "observation_resolution": Quantity("1", lowest=0.0),
    "observation_delay": Quantity("s", lowest=0.0),
    "observation_drop": _share(),
}


@dataclass(frozen=True)
class Ranges:
    """How each parameter is drawn; None keeps the model's own value. Units as in `Parameters`.

    `(low, high)` is uniform; a `Range` has other distributions. What belongs to bodies, joints or motors is drawn for each of them, and may
    be given by name instead: `{"base": (0.8, 1.2)}`; names not mentioned keep their own values. `correlations` holds triples
    ("friction", "motor_gain", 0.5) of parameters and their correlation.

    Raises:
        ValueError: bounds are reversed, or beyond what the parameter can be.
    """

    friction: Drawn = None
    friction_torsion: Drawn = None
    contact_time: Drawn = None
    contact_damping: Drawn = None
    contact_width: Drawn = None
    gravity: Drawn = None
    terrain: Drawn = None
    push_velocity: Drawn = None
    link_mass: Drawn = None
    inertia: Drawn = None
    center_of_mass: Drawn = None
    payload: Drawn = None
    payload_place: Drawn = None
    joint_damping: Drawn = None
    joint_friction: Drawn = None
    armature: Drawn = None
    motor_gain: Drawn = None
    motor_strength: Drawn = None
    motor_speed: Drawn = None
    deadband: Drawn = None
    backlash: Drawn = None
    joint_offset: Drawn = None
    action_delay: Drawn = None
    action_jitter: Drawn = None
    action_drop: Drawn = None
    observation_noise: Drawn = None
    observation_drift: Drawn = None
    observation_resolution: Drawn = None
    observation_delay: Drawn = None
    observation_drop: Drawn = None
    correlations: tuple[tuple[str, str, float], ...] = ()

    def __post_init__(self) -> None:
        given = tables(self)
        for name, table in given.items():
            quantity = QUANTITIES[name]
            for entry, one in table.items():
                where = f"{name}.{entry}" if entry else name
                low, high = one.bounds
                if low < quantity.lowest or (quantity.open_end and low == quantity.lowest):
                    least = f"above {quantity.lowest}" if quantity.open_end else f"at least {quantity.lowest}"
                    raise ValueError(f"{where}: the lower bound {low} {quantity.unit} must be {least}")
                if high > quantity.highest:
                    raise ValueError(f"{where}: the upper bound {high} {quantity.unit} must be at most {quantity.highest}")
        if "payload_place" in given and "payload" not in given:
            raise ValueError("payload_place: there is no payload; give its range in kg beside it")
        if unladen := [body for body in given.get("payload_place", {}) if not given["payload"].keys() & {body, ""}]:
            raise ValueError(f"payload_place: there is no payload on {unladen[0]}, but on {', '.join(given['payload'])}")
        pairs = []
        for a, b, value in self.correlations:
            if {a, b} in pairs:
                raise ValueError(f"correlations: {a} and {b} are named twice")
            pairs.append({a, b})
            for name in (a, b):
                if name not in given:
                    raise ValueError(f"correlations: {name} is not drawn; {suggestion(name, list(given))}")
            if a == b or not -1 <= value <= 1:
                raise ValueError(f"correlations: {a}, {b}: {value}: expected two parameters and a number between -1 and 1")


def _pair(given: Any) -> tuple[float, float]:
    """Raises ValueError where these are not two bounds."""
    if isinstance(given, tuple | list) and len(given) == 2:
        return given[0], given[1]
    raise ValueError(f"expected (low, high) or a Range, got {given!r}")


def tables(ranges: Ranges) -> dict[str, dict[str, Range]]:
    """Of each parameter that is drawn, the ranges by the name of an entry; "" stands for all entries.

    Raises:
        ValueError: bounds are reversed or not finite.
    """
    out: dict[str, dict[str, Range]] = {}
    for name in (f.name for f in fields(ranges) if f.name != "correlations"):
        given = getattr(ranges, name)
        table = {} if given is None else given if isinstance(given, dict) else {"": given}
        for entry, one in table.items():
            try:
                out.setdefault(name, {})[entry] = one if isinstance(one, Range) else Range(*_pair(one))
            except ValueError as error:
                raise ValueError(f"{f'{name}.{entry}' if entry else name}: {error}") from None
    return out


def _collides(model: mujoco.MjModel) -> np.ndarray:
    """[ngeom] bool."""
    return (model.geom_contype != 0) | (model.geom_conaffinity != 0)


def entries(model: mujoco.MjModel, of: str) -> list[str]:
    """The names of the model's bodies, joints or motors, in order; nameless ones are "body 3"."""
    count = {"world": 0, "body": model.nbody, "joint": model.njnt, "motor": model.nu}[of]
    get = {"body": model.body, "joint": model.joint, "motor": model.actuator}.get(of)
    return [] if get is None else [get(i).name or f"{of} {i}" for i in range(count)]


def own_values(model: mujoco.MjModel) -> Parameters:
    """The model's own parameters, without fields: no noise, no delay, no pushes."""
    sizes = {"world": (), "body": (model.nbody,), "joint": (model.njnt,), "motor": (model.nu,)}
    colliding = np.flatnonzero(_collides(model))
    # Of two that touch, that of higher priority decides.
    first = colliding[np.argmax(model.geom_priority[colliding])] if colliding.size else None
    absolute = (
        {}
        if first is None
        else {
            "friction": model.geom_friction[first, 0],
            "contact_time": model.geom_solref[first, 0],
            "contact_damping": model.geom_solref[first, 1],
            "contact_width": model.geom_solimp[first, 2],
        }
    )
    values = {
        name: jnp.full((*sizes[q.of], *((len(q.parts),) if q.parts else ())), absolute.get(name, q.nominal), jnp.float32)
        for name, q in QUANTITIES.items()
    }
    return Parameters(**values, fields={})
