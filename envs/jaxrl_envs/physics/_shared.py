"""What the two backends on `mujoco.mjx` share: its model with fields replaced, its state in and out, and the derived constants."""

import copy
import functools
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.types import Array
from jaxrl_envs.physics._engine import engine
from jaxrl_envs.physics.constants import FOLLOWED, constants
from jaxrl_envs.physics.fields import OPTION, own_value
from jaxrl_envs.physics.interface import Fields, PhysicsState

_LARGEST = 1e10  # mjMAXVAL: MuJoCo calls a coordinate beyond it bad

Features = dict[str, Callable[[mujoco.MjModel], bool]]

# Neither engine can be trusted with these, and both ignore them without a word.
IGNORED: Features = {
    "delays of actuators or sensors": lambda m: m.nhistory > 0,
    "disabled groups of actuators": lambda m: bool(((1 << m.actuator_group) & m.opt.disableactuator).any()),
    "armature of actuators": lambda m: bool(m.actuator_armature.any()),
    "sleeping": lambda m: bool(m.opt.enableflags & mujoco.mjtEnableBit.mjENBL_SLEEP),
}

# Derived constants that a step reads only in models that have what is named here.
_READ_WHERE: Features = {
    "body_subtreemass": lambda m: bool(
        np.isin(m.sensor_type, (mujoco.mjtSensor.mjSENS_SUBTREELINVEL, mujoco.mjtSensor.mjSENS_SUBTREEANGMOM)).any()
    ),
    "tendon_length0": lambda m: m.ntendon > 0,
    "tendon_invweight0": lambda m: m.ntendon > 0,
    "actuator_acc0": lambda m: bool((m.actuator_gaintype == mujoco.mjtGain.mjGAIN_MUSCLE).any()),
    "dof_M0": lambda m: False,
}


def unsupported(backend: str, error: object) -> ValueError:
    """The error about a model that `backend` cannot simulate; `error` names what it lacks."""
    return ValueError(f'physics backend {backend} cannot simulate this model: {error}. Change the model or use backend="native"')


def refuse(model: mujoco.MjModel, backend: str, features: Features) -> None:
    """Raises ValueError that names those of `features` which the model uses."""
    used = [name for name, uses in features.items() if uses(model)]
    if used:
        raise unsupported(backend, ", ".join(used))


def without_energy(model: mujoco.MjModel) -> mujoco.MjModel:
    """A copy of the model that does not compute energies, unless a sensor reads one."""
    out = copy.copy(model)
    if not np.isin(model.sensor_type, (mujoco.mjtSensor.mjSENS_E_POTENTIAL, mujoco.mjtSensor.mjSENS_E_KINETIC)).any():
        out.opt.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_ENERGY)
    return out


def float_fields(model: mujoco.MjModel, compiled: engine.Model) -> frozenset[str]:
    """The names of `compiled`'s arrays of floats that have the shape they have in `model`."""

    def names(of: object, prefix: str) -> Iterable[str]:
        for field in of.fields():  # type: ignore[attr-defined]
            value, name = getattr(of, field.name), f"{prefix}{field.name}"
            if hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating) and own_value(model, name).shape == value.shape:
                yield name

    return frozenset((*names(compiled, ""), *names(compiled.opt, OPTION)))


def _float() -> np.dtype:
    """float32, or float64 under `jax_enable_x64`."""
    return jax.dtypes.canonicalize_dtype(float)


def replaced(compiled: engine.Model, fields: Fields, left_out: dict[str, np.ndarray]) -> engine.Model:
    """`compiled` with the fields of one world. Where one has an effect that the program leaves out, time is NaN, so the world diverges."""
    own = jax.tree.map(jnp.asarray, compiled)
    given = {name: jnp.asarray(value, _float()) for name, value in fields.items()}
    option = own.opt.replace(**{name.removeprefix(OPTION): value for name, value in given.items() if name.startswith(OPTION)})
    for name, absent in left_out.items():
        if name in given and absent.any():
            option = option.replace(timestep=jnp.where((absent & (given[name] != 0)).any(), jnp.nan, option.timestep))
    return own.replace(opt=option, **{name: value for name, value in given.items() if not name.startswith(OPTION)})


def strong(state: PhysicsState) -> PhysicsState:
    """Every leaf of JAX's own float and not weakly typed, so that a state fits the program compiled for another."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(jnp.asarray(x), _float()), state)


def checked(state: PhysicsState, bad: Array | bool = False) -> PhysicsState:
    """`state`, or NaN throughout where it is `bad` or MuJoCo would call it bad (mj_checkPos, mj_checkVel, mj_checkAcc)."""
    state = strong(state)
    finite = [(jnp.abs(part) < _LARGEST).all() for part in (state.qpos, state.qvel, state.act, state.qacc_warmstart, state.time)]
    return jax.tree.map(lambda x: jnp.where(bad | ~jnp.stack(finite).all(), jnp.nan, x), state)


def _skeleton(model: mujoco.MjModel) -> mujoco.MjModel:
    """A copy of the model as its constants see it, so that MJX compiles it whatever its collisions, sensors and actuators are."""
    out = copy.copy(model)
    out.geom_contype[:] = out.geom_conaffinity[:] = 0
    out.geom_type[:] = mujoco.mjtGeom.mjGEOM_SPHERE  # of explicit pairs
    out.sensor_type[:] = mujoco.mjtSensor.mjSENS_CLOCK
    out.actuator_dyntype[:] = mujoco.mjtDyn.mjDYN_NONE
    out.actuator_gaintype[:] = mujoco.mjtGain.mjGAIN_FIXED
    out.actuator_biastype[:] = mujoco.mjtBias.mjBIAS_NONE
    out.opt.integrator, out.opt.enableflags = mujoco.mjtIntegrator.mjINT_EULER, 0
    return out


def _check_derivable(model: mujoco.MjModel, backend: str, fields: Fields) -> None:
    """Raises ValueError that names a field from which MuJoCo derives constants that `constants` does not."""
    bodies_joined = bool(np.isin(model.eq_type, (mujoco.mjtEq.mjEQ_CONNECT, mujoco.mjtEq.mjEQ_WELD)).any())
    poses = {"qpos0", "body_pos", "body_quat", "jnt_pos", "jnt_axis", "site_pos", "site_quat"}
    for name in fields:
        if name in mujoco.MjModel._setconst_inputs and name not in FOLLOWED:
            raise ValueError(f"field {name}: physics backend {backend} does not derive the constants that depend on it")
        if bodies_joined and name in poses:
            raise ValueError(f"field {name}: physics backend {backend} does not derive the anchors of connect and weld constraints from it")


def derivation(model: mujoco.MjModel, backend: str, check: Callable[[Fields], None]) -> Callable[[Fields], Fields]:
    """`Physics.derive` of a backend on MJX: adds what `mj_setConst` would make of the fields, as far as a step reads it."""

    @functools.cache  # most tasks never derive anything
    def skeleton() -> tuple[engine.Model, engine.Data]:
        with jax.ensure_compile_time_eval(), jax.numpy_rank_promotion("allow"):
            compiled = engine.put_model(_skeleton(model), impl="jax")
            return jax.tree.map(np.asarray, (compiled, engine.make_data(compiled)))

    @jax.jit
    def derived(fields: Fields) -> Fields:
        compiled, data = skeleton()
        with jax.numpy_rank_promotion("allow"):
            found = constants(replaced(compiled, fields, {}), jax.tree.map(jnp.asarray, data))
        return {name: value for name, value in found.items() if name not in fields and _READ_WHERE.get(name, lambda m: True)(model)}

    def derive(fields: Fields) -> Fields:
        _check_derivable(model, backend, fields)
        check(fields)
        return fields | derived(fields) if fields.keys() & FOLLOWED else fields

    return derive
