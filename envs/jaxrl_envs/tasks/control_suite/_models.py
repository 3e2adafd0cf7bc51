"""The models of the installed dm_control package, with the sensors that a task reads and no others."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import dm_control
import mujoco

from jaxrl.types import ArraySpec
from jaxrl_envs.tasks._control_task import CONTACTS

_FOLDER = Path(dm_control.__file__).parent / "suite"
_KINDS = {
    "body": mujoco.mjtObj.mjOBJ_XBODY,
    "centre of mass": mujoco.mjtObj.mjOBJ_BODY,
    "geom": mujoco.mjtObj.mjOBJ_GEOM,
    "site": mujoco.mjtObj.mjOBJ_SITE,
}
_AXES = {
    "x": mujoco.mjtSensor.mjSENS_FRAMEXAXIS,
    "y": mujoco.mjtSensor.mjSENS_FRAMEYAXIS,
    "z": mujoco.mjtSensor.mjSENS_FRAMEZAXIS,
}


class Sensor(NamedTuple):
    """A sensor to add; a task reads it by its name."""

    name: str
    type: mujoco.mjtSensor
    kind: str = ""  # of the element "of": body, centre of mass (of a body), geom or site
    of: str = ""
    frame_of: str = ""  # the body in whose frame it is told; the world's without


def position(of: str, kind: str = "body", frame_of: str = "") -> Sensor:
    """The sensor `<of>/position`, [3] m."""
    return Sensor(f"{of}/position", mujoco.mjtSensor.mjSENS_FRAMEPOS, kind, of, frame_of)


def axis(of: str, which: str, kind: str = "body", frame_of: str = "") -> Sensor:
    """The sensor `<of>/<which>`: the unit vector [3] along an axis of the element's frame."""
    return Sensor(f"{of}/{which}", _AXES[which], kind, of, frame_of)


def _add(spec: mujoco.MjSpec, sensor: Sensor) -> None:
    added = spec.add_sensor(name=sensor.name, type=sensor.type)
    if sensor.of:
        added.objtype, added.objname = _KINDS[sensor.kind], sensor.of
    if sensor.frame_of:
        added.reftype, added.refname = _KINDS["body"], sensor.frame_of


def read(domain: str) -> mujoco.MjSpec:
    """The model of a domain of the suite, to be changed."""
    spec = mujoco.MjSpec.from_file(str(_FOLDER / f"{domain}.xml"))
    spec.option.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_ENERGY)  # nothing reads it, and MJX does not compute it
    spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)  # a world that diverges is shown as such
    return spec


def compile_with(spec: mujoco.MjSpec, keep: Iterable[str] = (), add: Iterable[Sensor] = (), count_contacts: bool = False) -> mujoco.MjModel:
    """The compiled model with its own sensors `keep`, then `add`, then CONTACTS if asked for."""
    keep = frozenset(keep)
    for sensor in list(spec.sensors):
        if sensor.name not in keep:
            spec.delete(sensor)
    for one in add:
        _add(spec, one)
    if count_contacts:
        counter = spec.add_sensor(name=CONTACTS, type=mujoco.mjtSensor.mjSENS_CONTACT)
        counter.intprm[0], counter.intprm[2] = 1, 1  # the number found, once, for all geoms
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="compiler attribute 'settotalmass' is deprecated")  # the cheetah has it
        return spec.compile()


def moving_target(spec: mujoco.MjSpec, radius: float) -> mujoco.MjModel:
    """For pictures alone, of a compiled `spec`: its geom or site "target" is a sphere whose place [3] is the last of qpos."""
    for element in (*spec.geoms, *spec.sites):
        if element.name == "target":
            spec.delete(element)
    body = spec.worldbody.add_body(name="target")
    for name, direction in (("x", [1, 0, 0]), ("y", [0, 1, 0]), ("z", [0, 0, 1])):
        body.add_joint(name=f"target_{name}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=direction)
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[radius, 0, 0], material="target")
    return spec.compile()


# Names and units of coordinates.


def _kind(model: mujoco.MjModel, joint: int) -> str:
    return mujoco.mjtJoint(model.jnt_type[joint]).name.removeprefix("mjJNT_")


def position_spec(model: mujoco.MjModel, first: int = 0) -> ArraySpec:
    """qpos of the joints from `first` on: m, rad, and quaternions without a unit."""
    names, units = [], []
    for joint in range(first, model.njnt):
        own, kind = model.joint(joint).name, _kind(model, joint)
        if kind == "FREE":
            names += [f"{own}_{part}" for part in ("x", "y", "z", "qw", "qx", "qy", "qz")]
            units += ["m"] * 3 + ["1"] * 4
        else:
            names.append(own)
            units.append("m" if kind == "SLIDE" else "rad")
    return ArraySpec((len(names),), names=tuple(names), unit=",".join(units))


def velocity_spec(model: mujoco.MjModel, first: int = 0) -> ArraySpec:
    """qvel of the joints from `first` on: m/s and rad/s."""
    names, units = [], []
    for joint in range(first, model.njnt):
        own, kind = model.joint(joint).name, _kind(model, joint)
        if kind == "FREE":
            names += [f"{own}_{part}" for part in ("vx", "vy", "vz", "wx", "wy", "wz")]
            units += ["m/s"] * 3 + ["rad/s"] * 3
        else:
            names.append(own)
            units.append("m/s" if kind == "SLIDE" else "rad/s")
    return ArraySpec((len(names),), names=tuple(names), unit=",".join(units))
