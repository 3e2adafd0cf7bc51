"""Runge-Kutta of fourth order on MJX, as a loop over its stages.

`mjx.step` writes its four evaluations out one after the other, each to be compiled, and leaves behind the sensors of the last stage in
place of those of the state before the step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.types import Array
from jaxrl_envs.physics._engine import engine
from jaxrl_envs.physics.interface import PhysicsState

# Of each stage: which part of a time step it lies ahead, along the slope of the stage before it, and its slope's weight in the mean.
_AHEAD = np.array([0.0, 0.5, 0.5, 1.0], np.float32)
_WEIGHTS = np.array([1.0, 2.0, 2.0, 1.0], np.float32) / 6


class _Slope(NamedTuple):
    """How a state changes with time."""

    qvel: Array  # [nv]
    qacc: Array  # [nv]
    act_dot: Array  # [na]


def runge_kutta(model: engine.Model, before: engine.Data) -> PhysicsState:
    """The state a time step after `before`, with the sensors of `before`."""
    # MJX's Euler step without its implicit damping is the plain addition of a slope, which quaternions and activations need.
    plain = model.replace(opt=model.opt.replace(disableflags=model.opt.disableflags | mujoco.mjtDisableBit.mjDSBL_EULERDAMP))
    dt = model.opt.timestep

    def moved(qvel: Array) -> Array:
        return engine.euler(plain, before.replace(qvel=qvel, qacc=jnp.zeros_like(qvel))).qpos

    def stage(last: _Slope, ahead: Array) -> tuple[_Slope, tuple[_Slope, Array]]:
        there = before.replace(
            qpos=moved(ahead * last.qvel),
            qvel=before.qvel + ahead * last.qacc * dt,
            act=before.act + ahead * last.act_dot * dt,
            time=before.time + ahead * dt,
        )
        seen = engine.forward(model, there)
        slope = _Slope(there.qvel, seen.qacc, seen.act_dot)
        return slope, (slope, seen.sensordata)

    still = _Slope(jnp.zeros_like(before.qvel), jnp.zeros_like(before.qvel), jnp.zeros_like(before.act))
    last, (slopes, sensors) = jax.lax.scan(stage, still, jnp.asarray(_AHEAD, dt.dtype))
    mean = _Slope(*(jnp.tensordot(jnp.asarray(_WEIGHTS, dt.dtype), slope, 1) for slope in slopes))
    after = engine.euler(plain, before.replace(qacc=mean.qacc, act_dot=mean.act_dot))
    return PhysicsState(moved(mean.qvel), after.qvel, after.act, last.qacc, after.time, sensors[0])
