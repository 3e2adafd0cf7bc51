"""What a physics backend is: the same task runs on each of them.

A backend keeps nothing between calls. The state of a world is a `PhysicsState`; the model of a world is the compiled `MjModel` with some
fields replaced by `Fields`. All functions act on one world and are batched by `jax.vmap`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.types import Array

# What differs between worlds, each of the model's own shape, float32: fields of MjModel, and numbers of MjOption such as "opt.gravity".
Fields = dict[str, Array]


class PhysicsState(NamedTuple):
    """The integration state of one world, float32, and the sensors.

    `sensordata` describes the state before the last substep, as `mj_step` leaves it. In a backend made with `current_sensors` those of
    positions and velocities describe this very state, as in the DeepMind Control Suite; those of forces and accelerations never do.
    """

    qpos: Array  # [nq]
    qvel: Array  # [nv]
    act: Array  # [na]
    qacc_warmstart: Array  # [nv]
    time: Array  # [] s
    sensordata: Array  # [nsensordata]


INTEGRATED = PhysicsState._fields[:-1]  # all but the sensors


def late_sensors(model: mujoco.MjModel) -> np.ndarray:
    """[nsensordata] bool: the entries of `sensordata` that need forces and accelerations."""
    return np.repeat(model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC, model.sensor_dim)


def at_rest(model: mujoco.MjModel) -> PhysicsState:
    """Zeros throughout, quaternions too."""
    sizes = (model.nq, model.nv, model.na, model.nv, (), model.nsensordata)
    return PhysicsState(*(jnp.zeros(size) for size in sizes))


class Physics(NamedTuple):
    """One model on one engine."""

    model: mujoco.MjModel
    forward: Callable[[Array, Array, Fields], PhysicsState]
    # (qpos, qvel, fields) -> state at time 0 with the sensors of this very state
    step: Callable[[PhysicsState, Array, Fields], PhysicsState]
    # (state, ctrl [substeps, nu], fields) -> state after `substeps` steps of model.opt.timestep, one row of ctrl for each.
    # A world that MuJoCo could not simulate comes back as NaN; other worlds are untouched.
    derive: Callable[[Fields], Fields]
    # fields -> fields with the constants that this backend needs beside them; once per episode
