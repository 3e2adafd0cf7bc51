"""Tasks in the manner of the DeepMind Control Suite (Tassa et al. 2018, https://arxiv.org/abs/1801.00690), as environments.

An episode has 1000 control steps, each with a reward between 0 and 1; none terminates. Observation and reward read the state that follows
the action, through sensors: those of positions and velocities describe that very state, those of forces the last physics step.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.types import Array, ArraySpec, Env, EnvSpec, Key, Metrics, Observation, Spec, TimeStep
from jaxrl_envs.physics import PhysicsState, make
from jaxrl_envs.randomization import Parameters, Ranges, randomised
from jaxrl_envs.rendering import Pose, Scene
from jaxrl_envs.tasks import _action_repeat

CONTROL_STEPS = 1000
ATTEMPTS = 1000  # of starts, until one is free of contacts
CONTACTS = "contacts"  # the sensor that says how many there are


class Start(NamedTuple):
    """An episode's first state, at rest unless `qvel` says otherwise."""

    qpos: Array
    qvel: Array
    target: Array | tuple[()] = ()  # [3] m, in tasks that have one


class Seen(NamedTuple):
    """What observation and reward read."""

    qpos: Array
    qvel: Array
    act: Array
    sensors: dict[str, Array]
    target: Array  # [3] m, or [0] in tasks without one


class Task(NamedTuple):
    """What a task is beside its physics."""

    model: mujoco.MjModel
    dt: float  # s, of a control step
    observation: Spec
    start: Callable[[Key, Array], Start]  # (key, attempt) -> start; a later attempt follows one in which something touched
    observe: Callable[[Seen], Observation]
    reward: Callable[[Seen, Array], tuple[Array, Metrics]]  # (seen, control) -> reward [], metrics
    metrics: tuple[str, ...] = ()
    contact_free: bool = False  # starts anew until nothing touches; the model has the sensor CONTACTS
    settling: int = 0  # physics steps without control before the episode
    camera: str | None = None
    drawn: mujoco.MjModel | None = None  # for pictures, where the target moves: its qpos is that of `model`, then the target


class State(NamedTuple):
    """One world of the task."""

    physics: PhysicsState
    target: Array


def check(action_repeat: int) -> None:
    """Raises ValueError where an episode cannot be cut into actions of that many control steps."""
    _action_repeat.check(action_repeat, CONTROL_STEPS)


def _control_range(model: mujoco.MjModel) -> tuple[Array, Array]:
    low, high = np.where(model.actuator_ctrllimited[:, None], model.actuator_ctrlrange, [-np.inf, np.inf]).T
    return jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32)


def _control_unit(model: mujoco.MjModel, actuator: int) -> str:
    if model.actuator_biastype[actuator] != mujoco.mjtBias.mjBIAS_NONE:
        return "rad"  # a position servo's set point
    slides = model.jnt_type[model.actuator_trnid[actuator, 0]] == mujoco.mjtJoint.mjJNT_SLIDE
    gear = model.actuator_gear[actuator, 0] * model.actuator_gainprm[actuator, 0]
    return f"{gear:g} {'N' if slides else 'N m'}"


def action_spec(model: mujoco.MjModel) -> ArraySpec:
    """One entry per actuator: motors in units of their gear, servos in radians."""
    low, high = (tuple(float(x) for x in bound) for bound in _control_range(model))
    names = tuple(model.actuator(i).name for i in range(model.nu))
    return ArraySpec((model.nu,), names=names, unit=",".join(_control_unit(model, i) for i in range(model.nu)), low=low, high=high)


def control_task(name: str, task: Task, backend: str, action_repeat: int, ranges: Ranges) -> Env:
    """`task` as an `Env`, with physics parameters drawn from `ranges`; actions are clipped to the actuators' ranges.

    Raises:
        ValueError: there is no such backend, it cannot simulate this model, or a range has no effect on it.
    """
    physics = make(task.model, backend, current_sensors=task.model.nsensor > 0)
    low, high = _control_range(task.model)
    substeps = round(task.dt / task.model.opt.timestep)
    places = {task.model.sensor(i).name: task.model.sensor(i) for i in range(task.model.nsensor)}
    slices = {sensor: slice(place.adr[0], place.adr[0] + place.dim[0]) for sensor, place in places.items()}

    def seen(state: State) -> Seen:
        now = state.physics
        return Seen(now.qpos, now.qvel, now.act, {sensor: now.sensordata[part] for sensor, part in slices.items()}, state.target)

    def begin(key: Key, attempt: Array, parameters: Parameters) -> State:
        start = task.start(key, attempt)
        return State(physics.forward(start.qpos, start.qvel, parameters.fields), jnp.asarray(start.target, jnp.float32))

    def without_contacts(key: Key, parameters: Parameters) -> State:
        def blocked(carry: tuple[Array, State]) -> Array:
            attempt, state = carry
            return (seen(state).sensors[CONTACTS][0] > 0) & (attempt < ATTEMPTS)

        def again(carry: tuple[Array, State]) -> tuple[Array, State]:
            return carry[0] + 1, begin(key, carry[0], parameters)

        first = jnp.zeros((), jnp.int32)
        return jax.lax.while_loop(blocked, again, (first + 1, begin(key, first, parameters)))[1]

    def reset(key: Key, parameters: Parameters) -> tuple[State, Observation]:
        state = without_contacts(key, parameters) if task.contact_free else begin(key, jnp.zeros((), jnp.int32), parameters)
        if task.settling:
            settled = physics.step(state.physics, jnp.zeros((task.settling, task.model.nu)), parameters.fields)
            state = state._replace(physics=settled._replace(time=jnp.zeros_like(settled.time)))
        return state, task.observe(seen(state))

    def restart(state: State, parameters: Parameters, key: Key) -> tuple[State, Observation]:
        del parameters, key  # nothing that is seen depends on them before a step
        return state, task.observe(seen(state))

    def step(state: State, action: Array, parameters: Parameters, key: Key) -> tuple[State, TimeStep]:
        del key
        control = jnp.clip(action, low, high)
        later = physics.step(state.physics, jnp.broadcast_to(control[None, :], (substeps, task.model.nu)), parameters.fields)
        state = state._replace(physics=later)
        now = seen(state)
        reward, metrics = task.reward(now, control)
        return state, TimeStep(task.observe(now), reward, jnp.ones(()), jnp.zeros(()), metrics)

    def pose(state: State) -> Pose:
        qpos = state.physics.qpos
        return {"qpos": qpos if task.drawn is None else jnp.concatenate([qpos, state.target], -1)}

    spec = EnvSpec(name, task.observation, action_spec(task.model), CONTROL_STEPS, task.dt, task.metrics)
    scene = Scene(task.drawn or task.model, pose, task.camera)
    env = Env(spec, reset, step, restart, render=scene, **randomised(physics, ranges)._asdict())
    return _action_repeat.repeat_action(env, action_repeat)
