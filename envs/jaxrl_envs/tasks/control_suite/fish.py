"""A fish turns upright, or swims to a target (`dm_control.suite.fish`)."""

import jax
import jax.numpy as jnp

from jaxrl.ops.tolerance import tolerance
from jaxrl.types import SUCCESS, Array, ArraySpec, Key, Metrics, Observation
from jaxrl_envs.tasks._control_task import Seen, Start, Task
from jaxrl_envs.tasks.control_suite._models import axis, compile_with, moving_target, position, position_spec, read, velocity_spec
from jaxrl_envs.tasks.control_suite._starts import unit_quaternion

TASKS = ("upright", "swim")
BEND = 0.2  # rad, of the joints at the start, at most
NEAREST, FARTHEST = (-0.4, -0.4, 0.1), (0.4, 0.4, 0.3)  # m, corners of the box of targets


def _upright(seen: Seen) -> Array:
    return seen.sensors["torso/z"][2]


def _to_target(seen: Seen) -> Array:
    """From the mouth, in its frame."""
    axes = jnp.stack([seen.sensors[f"mouth/{name}"] for name in "xyz"])
    return (axes * (seen.target - seen.sensors["mouth/position"])[None, :]).sum(1)


def _observe(seen: Seen) -> Observation:
    return {"state/joint_angles": seen.qpos[7:], "state/upright": _upright(seen)[None], "state/velocity": seen.qvel}


def upright_reward(seen: Seen, control: Array) -> tuple[Array, Metrics]:
    """For the torso's axis along the world's."""
    return tolerance(_upright(seen), (1.0, 1.0), margin=1), {"upright": _upright(seen)}


def swim_reward(seen: Seen, reach: float) -> tuple[Array, Metrics]:
    """For a mouth within `reach` m of the target, and a little for being upright."""
    distance = jnp.linalg.norm(_to_target(seen))
    in_target = tolerance(distance, (0.0, reach), margin=2 * reach)
    metrics = {"upright": _upright(seen), "distance": distance, SUCCESS: tolerance(distance, (0.0, reach))}
    return (7 * in_target + (_upright(seen) + 1) / 2) / 8, metrics


def _pose(key: Key, joints: int) -> Array:
    turn, bend = jax.random.split(key)
    bends = jax.random.uniform(bend, (joints,), minval=-BEND, maxval=BEND)
    return jnp.concatenate([jnp.array([0.0, 0.0, 0.1]), unit_quaternion(turn), bends])


def fish(task: str) -> Task:
    """The task named `task`."""
    spec = read("fish")
    for geom in spec.geoms:  # the model's constraints are off, so contacts do nothing; but MJX refuses those of ellipsoids
        geom.contype = geom.conaffinity = 0
    mouth = (position("mouth", "geom"), *(axis("mouth", name, "geom") for name in "xyz"))
    model = compile_with(spec, add=(axis("torso", "z"), *(mouth if task == "swim" else ())))
    observation = {
        "state/joint_angles": position_spec(model, first=1),
        "state/upright": ArraySpec((1,), names=("torso",), unit="1"),
        "state/velocity": velocity_spec(model),
    }
    reach = float(model.geom("mouth").size[0] + model.geom("target").size[0])

    def upright_start(key: Key, attempt: Array) -> Start:
        return Start(_pose(key, model.nq - 7), jnp.zeros(model.nv))

    def swim_start(key: Key, attempt: Array) -> Start:
        pose, goal = jax.random.split(key)
        target = jax.random.uniform(goal, (3,), minval=jnp.array(NEAREST), maxval=jnp.array(FARTHEST))
        return Start(_pose(pose, model.nq - 7), jnp.zeros(model.nv), target)

    def swim_observe(seen: Seen) -> Observation:
        return _observe(seen) | {"state/target": _to_target(seen)}

    if task == "upright":
        return Task(model, 0.04, observation, upright_start, _observe, upright_reward, ("upright",), camera="tracking_top")
    return Task(
        model,
        dt=0.04,
        observation=observation | {"state/target": ArraySpec((3,), names=("x", "y", "z"), unit="m")},
        start=swim_start,
        observe=swim_observe,
        reward=lambda seen, control: swim_reward(seen, reach),
        metrics=("upright", "distance", SUCCESS),
        camera="tracking_top",
        drawn=moving_target(spec, float(model.geom("target").size[0])),
    )
