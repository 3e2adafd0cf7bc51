"""A scene whose picture is known: a red ball and a blue block that mirrors it, seen from above by the wrapper `pixels`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.types import ArraySpec, Env, EnvSpec, TimeStep
from jaxrl_envs.randomization.visual import Visual
from jaxrl_envs.rendering import Scene
from jaxrl_envs.wrappers.pixels import Config, pixels

# A red ball on a rail along x and a blue block that mocap moves, on a floor without end; they shine, so light does not change them.
_MODEL = """
<mujoco>
  <visual><headlight ambient="0.3 0.3 0.3" diffuse="0.3 0.3 0.3" specular="0 0 0"/></visual>
  <asset>
    <texture name="checker" type="2d" builtin="checker" rgb1="0.5 0.5 0.5" rgb2="0.3 0.3 0.3" width="32" height="32"/>
    <material name="floor" texture="checker" texuniform="true"/>
    <material name="red" rgba="1 0 0 1" emission="1"/>
  </asset>
  <worldbody>
    <light name="lamp" pos="0 0 3" dir="0 0 -1" diffuse="0.4 0.4 0.4"/>
    <camera name="above" pos="0 0 4" fovy="45"/>
    <camera name="side" pos="0 -4 1" xyaxes="1 0 0 0 0.2 1"/>
    <geom name="ground" type="plane" size="0 0 0.1" material="floor"/>
    <body pos="0 0 0.5"><joint type="slide" axis="1 0 0"/><geom name="ball" type="sphere" size="0.2" material="red"/></body>
    <body name="block" mocap="true" pos="0 1 0.5"><geom name="block" type="box" size="0.2 0.2 0.2" rgba="0 0 1 1"/></body>
  </worldbody>
</mujoco>
"""
SIZE = 32
LENGTH = 4
KEY = jax.random.key(0)
ALL = Visual(
    light_shift=1.0, light_turn=30.0, brightness=(0.5, 1.2), recolour=0.7, retexture=0.5,
    camera_shift=0.2, camera_turn=5.0, field_of_view=(0.8, 1.2),
)  # fmt: skip


@functools.cache
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(_MODEL)


def ball(spread: float = 0.0) -> Env:
    """The action moves the ball, which is to be at 0; the block mirrors it. An episode begins up to `spread` from there, and is cut."""

    def observe(place):
        return {"state/place": place}

    def reset(key, parameters):
        del parameters
        place = spread * jax.random.uniform(key, (1,), minval=-1.0)
        return place, observe(place)

    def step(place, action, parameters, key):
        del parameters, key
        later = place + action
        return later, TimeStep(observe(later), -jnp.abs(later[0]), jnp.ones(()), jnp.zeros(()), {})

    def pose(place):
        away, one = -place, jnp.ones_like(place)
        return {"qpos": place, "mocap_pos": jnp.concatenate([away, one, one / 2], -1)[..., None, :]}

    spec = EnvSpec("ball", {"state/place": ArraySpec((1,), names=("x",), unit="m")}, ArraySpec((1,)), LENGTH, 0.0)
    return Env(spec, reset, step, lambda place, parameters, key: (place, observe(place)), (), lambda key: (), Scene(model(), pose))


@functools.cache
def build(**fields: Any) -> Env:
    return pixels(Config(**{"cameras": ("above",), "width": SIZE, "height": SIZE} | fields), ball())


@functools.cache
def compiled(**fields: Any):
    """(places [N, 1], parameters [N, ...]) -> images [N, height, width, 3] of states reached in one step."""
    env = build(**fields)

    def images(places, parameters):
        def one(place, parameters):
            state, _ = env.reset(KEY, parameters)
            return env.step(state, place, parameters, KEY)[1].observation

        return jax.vmap(one)(places, parameters)

    return jax.jit(images)


def many(parameters, count):
    return jax.tree.map(lambda x: jnp.broadcast_to(x[None], (count, *jnp.shape(x))), parameters)


def shown(places, parameters=None, **fields):
    places = jnp.asarray(places, jnp.float32)[:, None]
    parameters = many(build(**fields).nominal, len(places)) if parameters is None else parameters
    return np.asarray(compiled(**fields)(places, parameters)["image/above"])


PLACES = (-0.9, -0.3, 0.0, 0.4, 0.8)


def centres(image):
    """[4] columns and rows of the middle of what is red, then of what is blue."""
    found = []
    for c in (0, 2):
        rows, columns = np.nonzero(image[..., c].astype(int) - image[..., [d for d in range(3) if d != c]].max(-1) > 60)
        found += [columns.mean() + 0.5, rows.mean() + 0.5]
    return np.array(found)


def expected_centres(place):
    """What `centres` is to find with the ball at `place` m."""
    scale = SIZE / (2 * 3.5 * np.tan(np.radians(45 / 2)))  # pixels per metre at the height of both, 3.5 m below the camera
    middle = SIZE / 2
    return np.array([middle + place * scale, middle, middle - place * scale, middle - scale])
