"""Chunks told from the gripper where it was when they were chosen, in the frame of the robot's base (UMI, Chi et al. 2024,
https://arxiv.org/abs/2402.10329, section 3.2)."""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from jaxrl.ops import poses, rotations
from jaxrl.types import Array, Observation, Params, Policy, PyTree


@dataclass(frozen=True)
class Config:
    """As `jaxrl_data`'s transform `relative_pose` tells them: a pose is x, y, z and a rotation behind it, and the fields are that one's.

    `state` holds the gripper's pose. With `history_too` the policy reads it as seen from the last one, too. Two arms take two of these.
    """

    state: str = "state/eef"
    action_first: int = 0  # column of x
    state_first: int = 0
    rotation: str = "rotation_6d"  # how the action writes it; a form of `jaxrl.ops.rotations`
    state_rotation: str = "euler"
    history_too: bool = False

    def __post_init__(self) -> None:
        for form in (self.rotation, self.state_rotation):
            rotations.width(form)
        if self.action_first < 0 or self.state_first < 0:
            raise ValueError("action_first and state_first are columns, counted from 0")


def _read(values: Array, first: int, form: str) -> Array:
    """The poses [..., 7] in `values` [..., D]."""
    turn = values[..., first + 3 : first + 3 + rotations.width(form)]
    return jnp.concatenate((rotations.read(turn, form), values[..., first : first + 3]), -1)


def _written(values: Array, pose: Array, first: int, form: str) -> Array:
    """`values` [..., D] with poses [..., 7] in place of theirs."""
    told = jnp.concatenate((pose[..., 4:], rotations.write(pose[..., :4], form)), -1)
    return values.at[..., first : first + 3 + rotations.width(form)].set(told)


def relative_pose(config: Config, policy: Policy) -> Policy:
    """All steps of a chunk are told from the one pose of the observation that it was chosen for; it is executed as it is then.

    So it comes before what goes on from an older chunk (`temporal_ensemble`, `blended`, `smoothed`), which would otherwise mix poses that
    are told from different places, and before `history`, which hands it the last observations. A mean of poses is one of the numbers that
    write them: let that be rotation_6d, of which any mean is a rotation again. `jaxrl_data.serving` undoes the transform itself; take one
    of the two.

    Raises:
        ValueError: the policy does not read the state, or has no such columns; its chunks are mixed with earlier ones already.
    """
    spec = policy.spec
    if spec.mixed:
        raise ValueError("relative_pose: these chunks are mixed with earlier ones, told from elsewhere; put it before what mixes them")
    if config.state not in spec.observation:
        raise ValueError(f"relative_pose: the policy does not read {config.state}; it reads {', '.join(sorted(spec.observation))}")
    seen = spec.observation[config.state]
    columns = {
        "the action": (spec.action.shape, config.action_first, config.rotation),
        config.state: (seen.shape, config.state_first, config.state_rotation),
    }
    for what, (shape, first, form) in columns.items():
        end = first + 3 + rotations.width(form)
        if not shape or int(shape[-1]) < end:
            raise ValueError(f"relative_pose: a pose with {form} from column {first} on ends at {end}, but {what} has the shape {shape}")
    over_time = len(seen.shape) == 2

    def act(params: Params, observation: Observation, carry: PyTree, key: Any, context: Any = None) -> tuple[Array, PyTree, dict]:
        shown = observation[config.state] if over_time else observation[config.state][:, None]
        past = _read(shown, config.state_first, config.state_rotation)
        base = past[:, -1:]
        if config.history_too:
            shown = _written(shown, poses.relative_to(base, past), config.state_first, config.state_rotation)
            observation = observation | {config.state: shown if over_time else shown[:, 0]}
        if context is not None:  # the chunk in flight, which others tell in the base's frame
            before = poses.relative_to(base, _read(context["prefix"], config.action_first, config.rotation))
            context = context | {"prefix": _written(context["prefix"], before, config.action_first, config.rotation)}
        chunk, carry, extras = policy.act(params, observation, carry, key, context)
        moved = poses.absolute(base, _read(chunk, config.action_first, config.rotation))
        return _written(chunk, moved, config.action_first, config.rotation), carry, extras

    return policy._replace(spec=spec._replace(action=replace(spec.action, low=None, high=None)), act=act)
