"""What happens to a joint target between policy and joint: delay, lost packets, backlash, deadband, motors that weaken with speed.

Targets are those of MuJoCo position actuators. What the motor does beyond MuJoCo's own law (gain, damping, constant torque limit) is
brought about by moving its target: a motor that is to give another torque holds another position.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.types import Array
from jaxrl_envs.physics import Physics, PhysicsState
from jaxrl_envs.randomization.parameters import Parameters, Ranges, entries, tables

READS = frozenset("motor_speed deadband backlash joint_offset action_delay action_jitter action_drop".split())
DRAWS = {"command": 2}  # uniform draws that a step needs, by name


class Commands(NamedTuple):
    """Joint targets on their way to the motors of one world."""

    sent: Array  # [slots, nu] rad, newest first
    geared: Array  # [nu] rad, behind the play of the gears


class Actuation(NamedTuple):
    """The way of commands in one model."""

    init: Callable[[Array], Commands]  # target [nu] held so far -> commands
    step: Callable[[PhysicsState, Commands, Array, Parameters, Array], tuple[PhysicsState, Commands, Array]]
    # (state, commands, target [nu] rad, parameters, draws [2]) -> state after `substeps` steps, commands, what the motors hold [nu] rad


def actuation(physics: Physics, ranges: Ranges, substeps: int, slots: int = 1) -> Actuation:
    """Commands at each control step of `substeps` steps of the physics; the latest `slots` may still be under way.

    What no range touches costs nothing. Motors that look at their speed or wanted torque at each step of the physics (motor_speed,
    deadband) need one call of the backend per step of the physics; all else needs one per control step.

    Raises:
        ValueError: a command may be later than the buffer is long, or a motor is no position actuator.
    """
    drawn = tables(ranges)
    if moved := sorted(drawn.keys() & {"motor_speed", "deadband", "backlash", "joint_offset"}):
        _check_position(physics.model, ", ".join(moved))
    physics_dt = physics.model.opt.timestep
    dt = physics_dt * substeps
    _check_delay(drawn, dt, slots)
    watched = bool(drawn.keys() & {"motor_speed", "deadband"})
    law = _law(physics) if watched else None
    lowest, highest = _bounds(physics.model)

    def init(target: Array) -> Commands:
        return Commands(jnp.tile(target[None, :], (slots + 1, 1)), target)

    def arriving(sent: Array, parameters: Parameters, draw: Array) -> Array:
        """[substeps, nu] the command in force at each step of the physics."""
        delay = parameters.action_delay + parameters.action_jitter * (2.0 * draw - 1.0)
        since = np.arange(substeps, dtype=np.float32) * np.float32(physics_dt)
        age = jnp.clip(jnp.ceil((delay - since) / dt - 1e-4), 0, slots).astype(jnp.int32)
        return sent[age]

    def step(
        state: PhysicsState, commands: Commands, target: Array, parameters: Parameters, draws: Array
    ) -> tuple[PhysicsState, Commands, Array]:
        lost = draws[0] < parameters.action_drop
        sent = jnp.concatenate([jnp.where(lost, commands.sent[0], target)[None, :], commands.sent[:-1]])
        held = (
            arriving(sent, parameters, draws[1]) if drawn.keys() & {"action_delay", "action_jitter"} else jnp.tile(sent[0], (substeps, 1))
        )
        geared = commands.geared
        if "backlash" in drawn:
            geared, held = jax.lax.scan(lambda last, wanted: 2 * (_play(last, wanted, parameters.backlash),), geared, held)
        if law is not None:  # in place of MuJoCo, for the law moves targets beyond these
            held = jnp.clip(held, lowest, highest)
        held = held - parameters.joint_offset[None, :]
        if law is None:
            after = physics.step(state, held, parameters.fields)
        else:
            after, _ = jax.lax.scan(
                lambda s, wanted: (physics.step(s, law(s, wanted, parameters)[None, :], parameters.fields), None), state, held
            )
        last = held[-1] if law is None else law(after, held[-1], parameters)
        return after, Commands(sent, geared), last

    return Actuation(init, step)


def _play(last: Array, wanted: Array, width: Array) -> Array:
    """Where the far side of gears with play is: it stays until the near side has crossed the gap (hysteresis of play)."""
    return jnp.clip(last, wanted - width / 2, wanted + width / 2)


def _bounds(model: mujoco.MjModel) -> tuple[Array, Array]:
    """[1, nu] each, between which MuJoCo keeps the targets."""
    limited = model.actuator_ctrllimited.astype(bool)[:, None]
    lowest, highest = jnp.asarray(np.where(limited, model.actuator_ctrlrange, (-np.inf, np.inf)).T[:, None], jnp.float32)
    return lowest, highest


def _check_position(model: mujoco.MjModel, what: str) -> None:
    """Raises ValueError where a motor takes no joint target."""
    gain, bias = model.actuator_gainprm[:, 0], model.actuator_biasprm
    plain = (
        (gain > 0) & np.isclose(bias[:, 1], -gain) & (bias[:, 0] == 0) & (model.actuator_trntype == 0) & (model.actuator_gear[:, 0] == 1)
    )
    if not plain.all():
        names = ", ".join(np.array(entries(model, "motor"))[~plain])
        raise ValueError(f"{what}: only position actuators on joints can have them, and these are none: {names}")


def _law(physics: Physics) -> Callable[[PhysicsState, Array, Parameters], Array]:
    """(state, target [nu] rad, parameters) -> the target [nu] under which MuJoCo's motor gives the torque of ours."""
    model = physics.model
    gain, bias = model.actuator_gainprm[:, 0], model.actuator_biasprm
    joint = model.actuator_trnid[:, 0]
    limit = np.where(model.actuator_forcelimited, model.actuator_forcerange[:, 1], np.inf).astype(np.float32)
    at_q, at_v = model.jnt_qposadr[joint], model.jnt_dofadr[joint]
    stiffness, damping = gain.astype(np.float32), -bias[:, 2].astype(np.float32)

    def law(state: PhysicsState, wanted: Array, parameters: Parameters) -> Array:
        angle, speed = state.qpos[at_q], state.qvel[at_v]
        torque = parameters.motor_gain * (stiffness * (wanted - angle) - damping * speed)
        torque = jnp.where(jnp.abs(torque) < parameters.deadband, 0.0, torque)
        # Full torque against the motion; with it, none is left at the no-load speed.
        full = limit * parameters.motor_strength
        along = jnp.clip(1.0 - jnp.sign(torque) * speed / parameters.motor_speed, 0.0, 1.0)
        torque = jnp.clip(torque, -full * along, full * along)
        return angle + (torque / parameters.motor_gain + damping * speed) / stiffness

    return law


def _check_delay(drawn: dict, dt: float, slots: int) -> None:
    latest = sum(max(one.bounds[1] for one in drawn[name].values()) for name in ("action_delay", "action_jitter") if name in drawn)
    if latest > slots * dt + 1e-9:
        needed = math.ceil(latest / dt - 1e-9)
        raise ValueError(
            f"action_delay and action_jitter: up to {latest} s, but the buffer holds {slots} control steps of {dt} s; "
            f"it needs {needed} (delay_steps={needed})"
        )
