"""Joystick velocity tracking on rough ground by a Unitree Go2: slopes, stairs, noise and obstacles on one height field.

Rudin et al. 2022, https://arxiv.org/abs/2109.11978: tiles in rows of rising difficulty, and a scan of the heights around the robot. The
parameter `terrain` of an episode, 0 to 1, is the row it starts on; which kind of ground is drawn. See `_joystick` for all else.
"""

from dataclasses import dataclass, field

import jax.numpy as jnp
import mujoco

from jaxrl.types import Array, ArraySpec, Env, Observation
from jaxrl_envs import terrain as terrains
from jaxrl_envs.randomization import Parameters
from jaxrl_envs.randomization.sensing import Sensor
from jaxrl_envs.tasks import _go2
from jaxrl_envs.tasks._go2_joystick import Joystick, walker
from jaxrl_envs.tasks._joystick import READS, Place, joystick

SCAN = "state/height_scan"
_DROP = 0.08  # m: no foot of any starting pose may be in the ground, out of which a height field does not push it
_RIM = 0.5  # m from the field's edge, where an episode is cut: a robot that walked on would fall off


@dataclass(frozen=True)
class Scan:
    """The points at which the ground's height is seen, in m around the robot, and the sensor that sees them."""

    forward: float = 0.6
    sideways: float = 0.45
    spacing: float = 0.15
    sensor: Sensor = Sensor(noise=0.02, resolution=0.005)  # m

    def __post_init__(self) -> None:
        if self.spacing <= 0 or self.forward < 0 or self.sideways < 0:
            raise ValueError(f"expected spacing > 0, forward >= 0 and sideways >= 0, got {self.spacing}, {self.forward}, {self.sideways}")


@dataclass(frozen=True)
class Config(Joystick):
    """The task's numbers; another `terrain_seed` makes other ground of the same kinds, to test on."""

    terrain: terrains.Config = field(default_factory=terrains.Config)
    terrain_seed: int = 0
    scan: Scan = field(default_factory=Scan)
    episode_seconds: float = 10.0


def _harden(spec: mujoco.MjSpec) -> None:
    """Feet that the edge of a stair keeps out: those of the flat task are so soft that 100 N push them 7 cm into it, where they stick.

    Harder contacts, and more of them to a foot, need more iterations: with four the velocities after a step are within 0.3 rad/s of
    those after fifty, on average, under targets off by 0.2 rad.
    """
    for leg in _go2.LEGS:
        foot = spec.geom(f"{leg}_foot")
        foot.solref, foot.solimp = [0.01, 1.0], [0.9, 0.95, 0.001, 0.5, 2.0]
    spec.option.iterations = 4


def go2_rough(config: Config = Config()) -> Env:
    """The task as an `Env`; actions are joint targets relative to the standing pose, [12], scaled by `action_scale`."""
    field = terrains.terrain(config.terrain, config.terrain_seed)
    spec = _go2.spec()
    terrains.replace_floor(spec, field)
    _harden(spec)
    points = terrains.scan_points(config.scan.forward, config.scan.sideways, config.scan.spacing)
    levels, kinds = field.origins.shape[:2]

    def origin(parameters: Parameters, draws: Array) -> Array:
        level = jnp.clip((parameters.terrain * levels).astype(jnp.int32), 0, levels - 1)
        return jnp.asarray(field.origins)[level, (draws[0] * kinds).astype(jnp.int32)]

    def look(position: Array, yaw: Array) -> Observation:
        return {SCAN: terrains.height_scan(field, position, yaw, points)}

    place = Place(
        ground=lambda at: terrains.height_at(field, at),
        origin=origin,
        look=look,
        seen={SCAN: ArraySpec((len(points),), names=tuple(f"{x:.2f},{y:.2f}" for x, y in points), unit="m")},
        sensors={SCAN: config.scan.sensor},
        drop=_DROP,
        left=lambda position: (terrains.inward(field, position[:2]) < _RIM).astype(jnp.float32),
    )
    rough = walker(config, _go2.compiled(spec, config.physics_dt))
    return joystick("go2_rough", config, rough, place, READS | {"terrain"})
