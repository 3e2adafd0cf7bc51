"""Camera images among the observations of any task that has something to draw, with lights, colours and cameras that vary.

Where JAX computes on a CPU, images are drawn on its cores by a pool of OpenGL renderers; on a GPU, by the ray tracer of MuJoCo Warp. One
call draws all rows of a `vmap`. A picture is a pure function of the state and of the look of the episode, which is drawn with its
physics: runs are resumed bit for bit, and the nominal world looks as the model says.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.buffer_callback import buffer_callback

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Array, ArraySpec, Env, Key, Observation, Params, PyTree, Space, Spec, Steering, TimeStep
from jaxrl_envs.physics import Fields
from jaxrl_envs.randomization import visual
from jaxrl_envs.randomization.visual import Visual
from jaxrl_envs.rendering import Pool, Scene, open_gl
from jaxrl_envs.rendering.renderer import camera_names
from jaxrl_envs.rendering.scene import within


@dataclass(frozen=True)
class Config:
    """`keep_state` False drops the `state/<group>` observations; to leave them to the critic, hide them instead (`config.hidden`).

    `frames` is the number of the latest images in one observation, oldest first along the channels; at the start of an episode they
    are all the first. `renderer` is "opengl", "warp" or, by the device, "auto"; their pictures differ, so keep to the one that a policy has
    learnt from.
    """

    cameras: tuple[str, ...]
    width: int = 64
    height: int = 64
    frames: int = 1
    keep_state: bool = True
    visual: Visual = field(default_factory=Visual)
    renderer: str = "auto"

    def __post_init__(self) -> None:
        if not self.cameras:
            raise ValueError("cameras is empty, but at least one must look")
        if len(set(self.cameras)) < len(self.cameras):
            raise ValueError(f"cameras names one twice: {', '.join(self.cameras)}")
        for name in ("width", "height", "frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.renderer not in ("auto", "opengl", "warp"):
            raise ValueError(f"renderer: {self.renderer!r} is unknown; {suggestion(self.renderer, ('auto', 'opengl', 'warp'))}")


class Parameters(NamedTuple):
    """One episode's physics, and its look."""

    physics: Params
    fields: Fields  # of the drawn model


class State(NamedTuple):
    """One world of the task, and the images it has shown."""

    world: PyTree
    seen: dict[str, Array]  # by camera, uint8 [height, width, 3 * (frames - 1)]: what the next observation shows too; empty for one frame


Draw = Callable[[dict[str, Array], Fields], dict[str, Array]]  # (pose, fields) of one world -> uint8 [height, width, 3] by camera


def on_host(config: Config, scene: Scene) -> Draw:
    """Draws on the CPU, batched by `vmap`.

    Raises:
        RuntimeError: JAX computes on another device than a CPU, or there is no OpenGL; the message says what to do.
    """
    if jax.default_backend() != "cpu":
        raise RuntimeError(
            f"OpenGL draws into the memory of a CPU, but JAX computes on {jax.default_backend()}: "
            'leave renderer at "auto", or set the environment variable JAX_PLATFORMS=cpu'
        )
    open_gl()
    pool = Pool(scene.model, config.cameras, config.width, config.height)
    picture = (config.height, config.width, 3)
    shapes = {name: jax.ShapeDtypeStruct(picture, jnp.uint8) for name in config.cameras}

    def call(context: Any, out: Any, *given: Any) -> None:
        del context
        pictures = [np.asarray(out[name]) for name in config.cameras]
        count = pictures[0].size // math.prod(picture)
        rank = pictures[0].ndim - len(picture)
        pose, fields = ({name: _rows(np.asarray(x), rank, count) for name, x in values.items()} for values in given)
        pool.draw(pose, fields, [each.reshape(count, *picture) for each in pictures])

    # Not `pure_callback`: see `jaxrl_envs.physics.native`.
    draw: Draw = buffer_callback(call, shapes, vmap_method="broadcast_all")
    return draw


def by_warp(config: Config, scene: Scene, varying: Collection[str]) -> Draw:
    """Draws where JAX computes, batched by `vmap`; `varying` names the fields of the model that do.

    Raises:
        ModuleNotFoundError: MuJoCo Warp is not installed.
        ValueError: it lacks something that the model uses.
    """
    try:
        from jaxrl_envs.rendering.ray_tracer import ray_tracer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"renderer warp needs the package {error.name}: pip install 'jaxrl[warp]'", name=error.name) from None
    return ray_tracer(scene.model, config.cameras, config.width, config.height, varying)


def _rows(values: np.ndarray, rank: int, count: int) -> np.ndarray:
    """The first `rank` axes, one for each `vmap`, as one of `count` rows."""
    return values.reshape(count, *values.shape[rank:])


def _check(config: Config, env: Env) -> Scene:
    if not isinstance(env.render, Scene):
        raise ValueError(f"{env.spec.name} cannot be drawn for pixels: its render is no jaxrl_envs.rendering.Scene")
    names = camera_names(env.render.model)
    for camera in config.cameras:
        if camera not in names:
            raise ValueError(f"cameras: {camera!r} is unknown; {suggestion(camera, names)}")
        if f"image/{camera}" in env.spec.observation:
            raise ValueError(f"{env.spec.name} has an observation image/{camera} already")
    return env.render


def _kept(config: Config, observed: dict[str, Any]) -> dict[str, Any]:
    """Observations, or their specs, without those that are dropped."""
    return {name: value for name, value in observed.items() if config.keep_state or not name.startswith("state/")}


def _earlier(images: dict[str, Array]) -> dict[str, Array]:
    """What the next observation needs of this one."""
    return {name: image[..., 3:] for name, image in images.items() if image.shape[-1] > 3}


def _space(space: Space, look: Callable[[Key], Fields]) -> Space:
    """That of the physics. The look follows from the point as if it were drawn: points that differ at all have nothing in common."""

    def at(point: Array) -> Parameters:
        bits = jax.lax.bitcast_convert_type(point, jnp.uint32)
        odd = 2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1
        return Parameters(space.at(point), look(jax.random.fold_in(jax.random.key(0), (bits * odd).sum(dtype=jnp.uint32))))

    return space._replace(at=at, summary=lambda parameters: space.summary(parameters.physics))


def _steering(steering: Steering) -> Steering:
    return steering._replace(set=lambda state, command: state._replace(world=steering.set(state.world, command)))


def pixels(config: Config, env: Env) -> Env:
    """`env` that also shows `image/<camera>`, uint8 [height, width, 3 * frames].

    Its physics parameters are `Parameters`: those of `env`, and the look of the episode.

    Raises:
        ValueError: `env` has nothing to draw, or lacks a camera, material or geom of that name.
        RuntimeError: there is no OpenGL, or JAX computes on another device than a CPU and `renderer` is "opengl".
        ModuleNotFoundError: `renderer` is "warp", and that is not installed.
    """
    scene = _check(config, env)
    look, plain = visual.distribution(scene.model, config.visual), visual.nominal(scene.model, config.visual)
    chosen = config.renderer if config.renderer != "auto" else "opengl" if jax.default_backend() == "cpu" else "warp"
    draw = on_host(config, scene) if chosen == "opengl" else by_warp(config, scene, frozenset(plain))

    def show(observation: Observation, images: dict[str, Array]) -> Observation:
        return _kept(config, observation) | {f"image/{name}": image for name, image in images.items()}

    def begin(world: PyTree, observation: Observation, parameters: Parameters) -> tuple[State, Observation]:
        first = draw(scene.pose(world), parameters.fields)
        images = {name: jnp.tile(image, (1, 1, config.frames)) for name, image in first.items()}
        return State(world, _earlier(images)), show(observation, images)

    def reset(key: Key, parameters: Parameters) -> tuple[State, Observation]:
        return begin(*env.reset(key, parameters.physics), parameters)

    def restart(state: State, parameters: Parameters, key: Key) -> tuple[State, Observation]:
        return begin(*env.restart(state.world, parameters.physics, key), parameters)

    def step(state: State, action: Array, parameters: Parameters, key: Key) -> tuple[State, TimeStep]:
        world, result = env.step(state.world, action, parameters.physics, key)
        latest = draw(scene.pose(world), parameters.fields)
        images = {name: jnp.concatenate([state.seen[name], latest[name]], -1) for name in latest} if config.frames > 1 else latest
        return State(world, _earlier(images)), result._replace(observation=show(result.observation, images))

    def sample(key: Key) -> Parameters:
        physics, picture = jax.random.split(key)
        return Parameters(env.sample(physics), look(picture))

    image = ArraySpec((config.height, config.width, 3 * config.frames), "uint8")
    observation: Spec = _kept(config, dict(env.spec.observation)) | {f"image/{name}": image for name in config.cameras}
    return Env(
        spec=env.spec._replace(observation=observation),
        reset=reset,
        step=step,
        restart=restart,
        nominal=Parameters(env.nominal, plain),
        sample=sample,
        render=within(scene, lambda state: state.world),
        space=env.space and _space(env.space, look),
        steering=env.steering and _steering(env.steering),
        vital=lambda state: env.vital(state.world),
    )
