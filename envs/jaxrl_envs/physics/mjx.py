"""MuJoCo XLA: physics that is itself JAX, for TPUs, GPUs and gradients.

`mjx.step` sees a fresh `mjx.Data` at each substep that holds nothing but the integration state, so worlds carry what the native
backend's carry: `PhysicsState`, some hundred bytes in place of many kilobytes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.types import Array
from jaxrl_envs import xla_flags
from jaxrl_envs.physics._engine import engine
from jaxrl_envs.physics.constants import FOLLOWED, constants
from jaxrl_envs.physics.interface import INTEGRATED, Fields, Physics, PhysicsState, at_rest, late_sensors

_LARGEST = 1e10  # mjMAXVAL: MuJoCo calls a coordinate beyond it bad

# Derived constants that `mjx.step` reads only in models that have what is named here.
_READ_WHERE: dict[str, Callable[[mujoco.MjModel], bool]] = {
    "body_subtreemass": lambda m: bool(
        np.isin(m.sensor_type, (mujoco.mjtSensor.mjSENS_SUBTREELINVEL, mujoco.mjtSensor.mjSENS_SUBTREEANGMOM)).any()
    ),
    "tendon_length0": lambda m: m.ntendon > 0,
    "tendon_invweight0": lambda m: m.ntendon > 0,
    "actuator_acc0": lambda m: bool((m.actuator_gaintype == mujoco.mjtGain.mjGAIN_MUSCLE).any()),
    "dof_M0": lambda m: False,
}

# MJX ignores these without a word.
_IGNORED: dict[str, Callable[[mujoco.MjModel], bool]] = {
    "delays of actuators or sensors": lambda m: m.nhistory > 0,
    "engine plugins": lambda m: m.nplugin > 0,
    "armature of actuators": lambda m: bool(m.actuator_armature.any()),
    "damping of actuators": lambda m: bool(m.actuator_damping.any() or m.actuator_dampingpoly.any()),
    "adhesion of geoms": lambda m: bool(m.flg_adhesion),
    "surface velocity of geoms": lambda m: bool(m.flg_surfacevel),
    "noslip iterations": lambda m: m.opt.noslip_iterations > 0,
}

# MJX decides by the compiled values which entries of these have an effect at all.
_SWITCHES = ("dof_frictionloss", "tendon_frictionloss", "body_gravcomp")


def _unsupported(error: object) -> ValueError:
    return ValueError(f'physics backend mjx cannot simulate this model: {error}. Change the model or use backend="native"')


def _compile(model: mujoco.MjModel) -> tuple[engine.Model, engine.Data]:
    """The model and a fresh data of it. Raises ValueError that names the feature which MJX lacks."""
    ignored = [name for name, used in _IGNORED.items() if used(model)]
    if ignored:
        raise _unsupported(", ".join(ignored))
    try:
        with jax.numpy_rank_promotion("allow"):
            compiled = engine.put_model(model, impl="jax")
            data = engine.make_data(compiled)
    except NotImplementedError as error:
        raise _unsupported(error) from None
    late = model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
    if data._impl.nefc == 0 and late.any():  # mjx.forward returns before it evaluates them
        raise _unsupported("sensors of forces and accelerations in a model without constraints")
    return compiled, data


def _check_fields(model: mujoco.MjModel, varying: frozenset[str], fields: Fields) -> None:
    """Raises ValueError that names a field which this backend cannot take per world."""
    for name, value in fields.items():
        if name not in varying:
            raise ValueError(f"field {name}: physics backend mjx cannot vary it between worlds")
        shape = np.shape(getattr(model, name))
        if value.shape != shape:
            raise ValueError(f"field {name}: expected the model's shape {shape}, got {value.shape}")
        if name in _SWITCHES and not np.any(getattr(model, name)):
            raise ValueError(f"field {name}: zero everywhere in the model, so mjx leaves its effect out; compile it with positive values")


def _check_derivable(model: mujoco.MjModel, fields: Fields) -> None:
    """Raises ValueError that names a field from which MuJoCo derives constants that `constants` does not."""
    bodies_joined = bool(np.isin(model.eq_type, (mujoco.mjtEq.mjEQ_CONNECT, mujoco.mjtEq.mjEQ_WELD)).any())
    poses = {"qpos0", "body_pos", "body_quat", "jnt_pos", "jnt_axis", "site_pos", "site_quat"}
    for name in fields:
        if name in mujoco.MjModel._setconst_inputs and name not in FOLLOWED:
            raise ValueError(f"field {name}: physics backend mjx does not derive the constants that depend on it")
        if bodies_joined and name in poses:
            raise ValueError(f"field {name}: physics backend mjx does not derive the anchors of connect and weld constraints from it")


def _is_float_array(value: object) -> bool:
    return isinstance(value, jax.Array) and bool(jnp.issubdtype(value.dtype, jnp.floating))


def mjx(model: mujoco.MjModel, current_sensors: bool = False) -> Physics:
    """Physics as a JAX program (`mujoco.mjx`, impl="jax"), on any device. Differentiable where the solver's iterations are unrolled.

    The model is read once, here. Fields may hold what is an array of floats to MJX and has the model's shape.

    Raises:
        ValueError: MJX lacks something that the model uses.
        RuntimeError: on a CPU, XLA_FLAGS lacks what keeps MJX from hanging (see `jaxrl_envs.xla_flags`).
    """
    xla_flags.check("physics backend mjx")
    compiled, fresh = _compile(model)
    varying = frozenset(f.name for f in compiled.fields() if _is_float_array(getattr(compiled, f.name)))
    # MJX ties its arrays to one device. Numpy arrays become constants of whatever program reads them, on any mesh.
    compiled, fresh = jax.tree.map(np.asarray, (compiled, fresh))
    late = late_sensors(model)
    stages = model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4 and model.nsensor > 0

    def world(fields: Fields) -> engine.Model:
        _check_fields(model, varying, fields)
        own = jax.tree.map(jnp.asarray, compiled)
        return own.replace(**{name: jnp.asarray(value, jnp.float32) for name, value in fields.items()})

    def data(**state: Array) -> engine.Data:
        return jax.tree.map(jnp.asarray, fresh).replace(**state)

    def forward(qpos: Array, qvel: Array, fields: Fields) -> PhysicsState:
        own = world(fields)
        with jax.numpy_rank_promotion("allow"):  # MJX relies on it
            sensors = engine.forward(own, data(qpos=qpos, qvel=qvel)).sensordata
        return _checked(at_rest(model)._replace(qpos=qpos, qvel=qvel, sensordata=sensors))

    def substep(own: engine.Model, state: PhysicsState, ctrl: Array) -> PhysicsState:
        carried = {name: getattr(state, name) for name in INTEGRATED}
        before = data(**carried, ctrl=ctrl)
        after = engine.step(own, before)
        # The stages of Runge-Kutta overwrite the sensors of the state before the step; XLA shares the work with the step's own forward.
        sensors = (engine.forward(own, before) if stages else after).sensordata
        return PhysicsState(**{name: getattr(after, name) for name in INTEGRATED}, sensordata=sensors)

    def step(state: PhysicsState, ctrl: Array, fields: Fields) -> PhysicsState:
        own = world(fields)
        with jax.numpy_rank_promotion("allow"):
            after, _ = jax.lax.scan(lambda s, c: (_strong(substep(own, s, c)), None), _strong(state), ctrl)
            if current_sensors:
                now = _sensed(own, data(**{name: getattr(after, name) for name in INTEGRATED}))
                after = after._replace(sensordata=jnp.where(late, after.sensordata, now))
        return _checked(after)

    @jax.jit
    def derived(fields: Fields) -> Fields:
        own = world(fields)
        with jax.numpy_rank_promotion("allow"):
            found = constants(own, data())
        return {name: value for name, value in found.items() if name not in fields and _READ_WHERE.get(name, lambda m: True)(model)}

    def derive(fields: Fields) -> Fields:
        _check_derivable(model, fields)
        return fields | derived(fields) if fields.keys() & FOLLOWED else fields

    return Physics(model, forward, step, derive)


def _sensed(model: engine.Model, data: engine.Data) -> Array:
    """The sensors of positions and velocities; the others are zero."""
    for stage in (engine.fwd_position, engine.sensor_pos, engine.fwd_velocity, engine.sensor_vel):
        data = stage(model, data)
    return data.sensordata


def _strong(state: PhysicsState) -> PhysicsState:
    """Every leaf float32 and not weakly typed, so that a state fits the program compiled for another."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(jnp.asarray(x), np.dtype("float32")), state)


def _checked(state: PhysicsState) -> PhysicsState:
    """`state`, or NaN throughout where MuJoCo would call it bad (mj_checkPos, mj_checkVel, mj_checkAcc)."""
    state = _strong(state)
    bad = [~(jnp.abs(part) < _LARGEST).all() for part in (state.qpos, state.qvel, state.act, state.qacc_warmstart)]
    return jax.tree.map(lambda x: jnp.where(jnp.stack(bad).any(), jnp.nan, x), state)
