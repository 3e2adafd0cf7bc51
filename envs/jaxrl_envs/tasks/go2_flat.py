"""Joystick velocity tracking on flat ground by a Unitree Go2, a quadruped with twelve joints. See `_go2_joystick`."""

from dataclasses import dataclass

from jaxrl.types import Env
from jaxrl_envs.tasks import _go2
from jaxrl_envs.tasks._go2_joystick import FLOOR, Joystick, joystick


@dataclass(frozen=True)
class Config(Joystick):
    """The task's numbers."""


def go2_flat(config: Config = Config()) -> Env:
    """The task as an `Env`; actions are joint targets relative to the standing pose, [12], scaled by `action_scale`."""
    return joystick("go2_flat", config, _go2.robot(_go2.model(config.physics_dt)), FLOOR)
