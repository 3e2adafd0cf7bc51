"""brax's ant and half-cheetah as `jaxrl.types.Env`: the same model file, solver options, observation, reward, termination and reset noise.

The model files are read from the installed brax (`pip install brax==0.14.2`), which is not imported. What brax calls the position of
the torso after a step is the one before the last substep (`mjx.step` leaves derived quantities of the state it started from); a
`framepos` sensor has just that lag, so rewards agree to rounding.
"""

import importlib.util
import warnings
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.types import ArraySpec, Env, EnvSpec, Key, Observation, Params, TimeStep
from jaxrl_envs.physics import PhysicsState, make

Array = jax.Array
INSTALL = "this benchmark compares with brax, which is not installed: pip install brax==0.14.2"
SUBSTEPS = 5
RESET_NOISE = 0.1
EPISODE_LENGTH = 1000


class Task(NamedTuple):
    """What differs between the two."""

    brax_name: str
    file: str
    options: dict[str, int]  # of mjOption, as brax sets them for its MJX backend
    hidden_positions: int  # leading entries of qpos that the policy does not see
    alive: float  # reward per step
    control_cost: float
    healthy_height: tuple[float, float]  # m, of the torso; the episode terminates outside


TASKS = {
    "ant": Task(
        "ant",
        "ant.xml",
        {
            "solver": mujoco.mjtSolver.mjSOL_NEWTON,
            "disableflags": mujoco.mjtDisableBit.mjDSBL_EULERDAMP,
            "iterations": 1,
            "ls_iterations": 4,
        },
        hidden_positions=2,
        alive=1.0,
        control_cost=0.5,
        healthy_height=(0.2, 1.0),
    ),
    "half_cheetah": Task(
        "halfcheetah",
        "half_cheetah.xml",
        {},
        hidden_positions=1,
        alive=0.0,
        control_cost=0.1,
        healthy_height=(-np.inf, np.inf),
    ),
}


def assets() -> Path:
    """The folder of brax's model files.

    Raises:
        ModuleNotFoundError: brax is not installed.
    """
    found = importlib.util.find_spec("brax")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(INSTALL)
    return Path(found.submodule_search_locations[0]) / "envs" / "assets"


def model(task: Task) -> mujoco.MjModel:
    """brax's model with the position of its torso as the only sensor; bodies without joints are fused, as brax does."""
    spec = mujoco.MjSpec.from_file(str(assets() / task.file))
    spec.compiler.fusestatic = True
    spec.add_sensor(name="torso", type=mujoco.mjtSensor.mjSENS_FRAMEPOS, objtype=mujoco.mjtObj.mjOBJ_XBODY, objname="torso")
    with warnings.catch_warnings():  # half_cheetah.xml uses an attribute that MuJoCo deprecates
        warnings.simplefilter("ignore")
        compiled = spec.compile()
    for name, value in task.options.items():
        setattr(compiled.opt, name, int(value))
    return compiled


def initial_position(compiled: mujoco.MjModel) -> np.ndarray:
    """brax's custom `init_qpos` where the file has one."""
    custom = [compiled.numeric(i) for i in range(compiled.nnumeric)]
    return np.asarray(next((c.data for c in custom if c.name == "init_qpos"), compiled.qpos0), np.float32)


def brax_task(name: str, backend: str = "auto") -> Env:
    """`name` is a key of TASKS; actions are in [-1, 1]. Nothing is randomised but the start."""
    task = TASKS[name]
    compiled = model(task)
    physics = make(compiled, backend)
    start = initial_position(compiled)
    dt = float(compiled.opt.timestep) * SUBSTEPS
    low, high = task.healthy_height

    def observe(state: PhysicsState) -> Observation:
        return {"state/position": state.qpos[task.hidden_positions :], "state/velocity": state.qvel}

    def reset(key: Key, params: Params) -> tuple[PhysicsState, Observation]:
        _, position, velocity = jax.random.split(key, 3)
        qpos = start + jax.random.uniform(position, (compiled.nq,), minval=-RESET_NOISE, maxval=RESET_NOISE)
        if compiled.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE:  # MJX hands the noisy quaternion back normalised
            qpos = qpos.at[3:7].set(qpos[3:7] / jnp.linalg.norm(qpos[3:7]))
        qvel = RESET_NOISE * jax.random.normal(velocity, (compiled.nv,))
        state = physics.forward(qpos, qvel, params)
        return state, observe(state)

    def restart(state: PhysicsState, params: Params, key: Key) -> tuple[PhysicsState, Observation]:
        return state, observe(state)

    def step(state: PhysicsState, action: Array, params: Params, key: Key) -> tuple[PhysicsState, TimeStep]:
        after = physics.step(state, jnp.broadcast_to(action[None, :], (SUBSTEPS, compiled.nu)), params)
        velocity = (after.sensordata[0] - state.sensordata[0]) / dt
        cost = task.control_cost * jnp.square(action).sum()
        height = after.sensordata[2]
        alive = ((height >= low) & (height <= high)).astype(jnp.float32)
        reward = velocity + task.alive - cost
        return after, TimeStep(observe(after), reward, alive, jnp.zeros(()), {"velocity": velocity, "control_cost": cost})

    spec = EnvSpec(
        name=name,
        observation={
            "state/position": ArraySpec((compiled.nq - task.hidden_positions,)),  # qpos: m, quaternion, rad
            "state/velocity": ArraySpec((compiled.nv,)),  # qvel: m/s, rad/s
        },
        action=ArraySpec((compiled.nu,), low=-1.0, high=1.0),
        episode_length=EPISODE_LENGTH,
        dt=dt,
        metrics=("velocity", "control_cost"),
    )
    nominal = physics.derive({})
    return Env(spec, reset, step, restart, nominal=nominal, sample=lambda key: nominal)
