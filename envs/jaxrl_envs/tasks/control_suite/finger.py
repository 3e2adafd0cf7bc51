"""A planar finger spins a body, or turns it so that its tip meets a target (`dm_control.suite.finger`)."""

import jax
import jax.numpy as jnp

from jaxrl.types import SUCCESS, Array, ArraySpec, Key, Metrics, Observation
from jaxrl_envs.tasks._control_task import Seen, Start, Task
from jaxrl_envs.tasks.control_suite._models import compile_with, moving_target, read
from jaxrl_envs.tasks.control_suite._starts import random_joints

RADII = {"turn_easy": 0.07, "turn_hard": 0.03}  # m, of the target
TASKS = ("spin", *RADII)
SPIN_VELOCITY = 15.0  # rad/s, at least
SPIN_DAMPING = 0.03  # N m s/rad, of the body's hinge while it is to spin
ANGLES, VELOCITIES = ("proximal", "distal"), ("proximal_velocity", "distal_velocity", "hinge_velocity")
SENSORS = (*ANGLES, *VELOCITIES, "tip", "spinner", "touchtop", "touchbottom")


def _gather(seen: Seen, *names: str) -> Array:
    return jnp.concatenate([seen.sensors[name] for name in names])


def _tip(seen: Seen) -> Array:
    """x and z from the body's hinge."""
    return (seen.sensors["tip"] - seen.sensors["spinner"])[::2]


def _target(seen: Seen) -> Array:
    return (seen.target - seen.sensors["spinner"])[::2]


def _distance(seen: Seen, radius: float) -> Array:
    """From the tip to the target's surface; negative inside."""
    return jnp.linalg.norm(_target(seen) - _tip(seen)) - radius


def _observe(seen: Seen) -> Observation:
    return {
        "state/position": jnp.concatenate([_gather(seen, *ANGLES), _tip(seen)]),
        "state/velocity": _gather(seen, *VELOCITIES),
        "state/touch": jnp.log1p(_gather(seen, "touchtop", "touchbottom")),
    }


def spin_reward(seen: Seen, control: Array) -> tuple[Array, Metrics]:
    """1 while the body spins fast enough, clockwise."""
    velocity = seen.sensors["hinge_velocity"][0]
    spins = (velocity <= -SPIN_VELOCITY).astype(jnp.float32)
    return spins, {"velocity": -velocity, SUCCESS: spins}


def turn_reward(seen: Seen, radius: float) -> tuple[Array, Metrics]:
    """1 while the tip is inside the target."""
    distance = _distance(seen, radius)
    inside = (distance <= 0).astype(jnp.float32)
    return inside, {"distance": distance, SUCCESS: inside}


_OBSERVATION = {
    "state/position": ArraySpec((4,), names=("proximal", "distal", "tip_x", "tip_z"), unit="rad,rad,m,m"),
    "state/velocity": ArraySpec((3,), names=("proximal", "distal", "hinge"), unit="rad/s"),
    "state/touch": ArraySpec((2,), names=("top", "bottom"), unit="log(1 + N)"),
}


def _spin() -> Task:
    spec = read("finger")
    spec.joint("hinge").damping = [SPIN_DAMPING, 0, 0]
    spec.delete(spec.site("target"))
    model = compile_with(spec, keep=SENSORS, count_contacts=True)
    draw = random_joints(model)

    def start(key: Key, attempt: Array) -> Start:
        return Start(draw(jax.random.fold_in(key, attempt)), jnp.zeros(model.nv))

    return Task(model, 0.02, _OBSERVATION, start, _observe, spin_reward, ("velocity", SUCCESS), contact_free=True, camera="cam0")


def _turn(radius: float) -> Task:
    spec = read("finger")
    model = compile_with(spec, keep=SENSORS, count_contacts=True)
    hinge = jnp.asarray(model.body("spinner").pos, jnp.float32)
    length = float(model.geom("cap1").size.sum())
    draw = random_joints(model)

    def start(key: Key, attempt: Array) -> Start:
        goal, pose = jax.random.split(key)
        angle = jax.random.uniform(goal, minval=-jnp.pi, maxval=jnp.pi)
        target = hinge + length * jnp.stack([jnp.sin(angle), jnp.zeros(()), jnp.cos(angle)])
        return Start(draw(jax.random.fold_in(pose, attempt)), jnp.zeros(model.nv), target)

    def observe(seen: Seen) -> Observation:
        return _observe(seen) | {
            "state/target_position": _target(seen),
            "state/dist_to_target": _distance(seen, radius)[None],
        }

    observation = _OBSERVATION | {
        "state/target_position": ArraySpec((2,), names=("x", "z"), unit="m"),
        "state/dist_to_target": ArraySpec((1,), names=("distance",), unit="m"),
    }
    return Task(
        model,
        dt=0.02,
        observation=observation,
        start=start,
        observe=observe,
        reward=lambda seen, control: turn_reward(seen, radius),
        metrics=("distance", SUCCESS),
        contact_free=True,
        camera="cam0",
        drawn=moving_target(spec, radius),
    )


def finger(task: str) -> Task:
    """The task named `task`."""
    return _spin() if task == "spin" else _turn(RADII[task])
