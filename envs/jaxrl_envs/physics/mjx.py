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
from jaxrl_envs.physics._runge_kutta import runge_kutta
from jaxrl_envs.physics._shared import (
    IGNORED,
    Features,
    checked,
    derivation,
    float_fields,
    refuse,
    replaced,
    strong,
    unsupported,
    without_energy,
)
from jaxrl_envs.physics.fields import FLUID, check_fields, without
from jaxrl_envs.physics.interface import INTEGRATED, Fields, Physics, PhysicsState, at_rest, late_sensors

_BACKEND = "mjx"


def _disables_one_of_springs_and_dampers(model: mujoco.MjModel) -> bool:
    flags = model.opt.disableflags
    return bool(flags & mujoco.mjtDisableBit.mjDSBL_SPRING) != bool(flags & mujoco.mjtDisableBit.mjDSBL_DAMPER)


# MJX ignores these without a word.
_IGNORED: Features = IGNORED | {
    "engine plugins": lambda m: m.nplugin > 0,
    "damping of actuators": lambda m: bool(m.actuator_damping.any() or m.actuator_dampingpoly.any()),
    "adhesion of geoms": lambda m: bool(m.flg_adhesion),
    "surface velocity of geoms": lambda m: bool(m.flg_surfacevel),
    "early activation of actuators": lambda m: bool(m.actuator_actearly.any()),
    "noslip iterations": lambda m: m.opt.noslip_iterations > 0,
    "springs or dampers that are not linear": lambda m: any(
        getattr(m, name).any() for name in ("jnt_stiffnesspoly", "dof_dampingpoly", "tendon_stiffnesspoly", "tendon_dampingpoly")
    ),
    "disabling only springs or only dampers": _disables_one_of_springs_and_dampers,
    "the ellipsoid model of fluids": lambda m: bool(m.geom_fluid[:, 0].any()) and not without(m, FLUID)[FLUID[0]].all(),
    "rays that meet height fields": lambda m: m.nhfield > 0 and bool((m.sensor_type == mujoco.mjtSensor.mjSENS_RANGEFINDER).any()),
}

# MJX decides by the compiled values which entries of these have an effect at all.
_SWITCHES = ("dof_frictionloss", "tendon_frictionloss", "body_gravcomp", *FLUID)


def _compile(model: mujoco.MjModel) -> tuple[engine.Model, engine.Data]:
    """The model and a fresh data of it. Raises ValueError that names the feature which MJX lacks."""
    refuse(model, _BACKEND, _IGNORED)
    try:
        with jax.numpy_rank_promotion("allow"):
            compiled = engine.put_model(without_energy(model), impl="jax")
            data = engine.make_data(compiled)
    except NotImplementedError as error:
        raise unsupported(_BACKEND, error) from None
    late = model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
    if data._impl.nefc == 0 and late.any():  # mjx.forward returns before it evaluates them
        raise unsupported(_BACKEND, "sensors of forces and accelerations in a model without constraints")
    return compiled, data


def mjx(model: mujoco.MjModel, current_sensors: bool = False) -> Physics:
    """Physics as a JAX program (`mujoco.mjx`, impl="jax"), on any device.

    The model is read once, here. Fields may hold what is an array of floats to MJX and has the model's shape.

    Under `vmap` all worlds wait for the one whose solver takes longest, so a model with the hundred iterations that are MuJoCo's default
    is slow, though right: set `iterations` to 1 to 8 and `ls_iterations` to 4 to 16 where speed counts. Gradients: forward mode always;
    reverse mode (`jax.grad`) where the solver makes one iteration (`iterations="1"`) or the model has no constraints, for JAX cannot
    turn a while loop round. Under `jax_enable_x64` all is float64.

    Raises:
        ValueError: MJX lacks something that the model uses; on a CPU, XLA_FLAGS lacks what keeps MJX from hanging (see
            `jaxrl_envs.xla_flags`).
    """
    xla_flags.check(f"physics backend {_BACKEND}")
    compiled, fresh = _compile(model)
    varying, left_out = float_fields(model, compiled), without(model, _SWITCHES)
    # MJX ties its arrays to one device. Numpy arrays become constants of whatever program reads them, on any mesh.
    compiled, fresh = jax.tree.map(np.asarray, (compiled, fresh))
    late, sensing = late_sensors(model), _sensing(model)
    runge_kutta4 = model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4

    def check(fields: Fields) -> None:
        check_fields(model, _BACKEND, varying, left_out, fields)

    def world(fields: Fields) -> engine.Model:
        check(fields)
        return replaced(compiled, fields, left_out)

    def data(**state: Array) -> engine.Data:
        return jax.tree.map(jnp.asarray, fresh).replace(**state)

    def forward(qpos: Array, qvel: Array, fields: Fields) -> PhysicsState:
        own = world(fields)
        with jax.numpy_rank_promotion("allow"):  # MJX relies on it
            sensors = engine.forward(own, data(qpos=qpos, qvel=qvel)).sensordata
        return checked(at_rest(model)._replace(qpos=qpos, qvel=qvel, sensordata=sensors))

    def substep(own: engine.Model, state: PhysicsState, ctrl: Array) -> PhysicsState:
        before = data(**{name: getattr(state, name) for name in INTEGRATED}, ctrl=ctrl)
        if runge_kutta4:
            return runge_kutta(own, before)
        after = engine.step(own, before)
        return PhysicsState(**{name: getattr(after, name) for name in PhysicsState._fields})

    def step(state: PhysicsState, ctrl: Array, fields: Fields) -> PhysicsState:
        own = world(fields)
        moving = _blind(own) if current_sensors and not late.any() else own
        with jax.numpy_rank_promotion("allow"):
            after, _ = jax.lax.scan(lambda s, c: (strong(substep(moving, s, c)), None), strong(state), ctrl)
            if current_sensors:
                now = data(**{name: getattr(after, name) for name in INTEGRATED})
                for stage in sensing:
                    now = stage(own, now)
                after = after._replace(sensordata=jnp.where(late, after.sensordata, now.sensordata))
        return checked(after)

    return Physics(model, forward, step, derivation(model, _BACKEND, check))


def _blind(model: engine.Model) -> engine.Model:
    """`model` without sensors, for steps of which nobody reads them."""
    return model.replace(opt=model.opt.replace(disableflags=model.opt.disableflags | mujoco.mjtDisableBit.mjDSBL_SENSOR))


def _sensing(model: mujoco.MjModel) -> tuple[Callable[[engine.Model, engine.Data], engine.Data], ...]:
    """What leads from a state to its sensors of positions and velocities, and nothing else: MJX would compile contacts and forces too."""

    def reads(*kinds: str) -> bool:
        return bool(np.isin(model.sensor_type, [getattr(mujoco.mjtSensor, f"mjSENS_{kind}") for kind in kinds]).any())

    of_cameras = np.isin([model.sensor_objtype, model.sensor_reftype], mujoco.mjtObj.mjOBJ_CAMERA).any()
    cameras = (engine.camlight,) if of_cameras else ()
    contacts = (engine.collision,) if reads("CONTACT") else ()
    rates = engine.fwd_velocity if reads("TENDONVEL", "ACTUATORVEL") else engine.com_vel
    places = (engine.kinematics, engine.com_pos, *cameras, engine.tendon, engine.transmission, *contacts)
    return *places, engine.sensor_pos, rates, engine.sensor_vel
