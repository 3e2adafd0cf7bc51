"""Pictures of many worlds by the ray tracer of MuJoCo Warp: drawn on an NVIDIA GPU, in whose memory they stay. It runs on a CPU too.

One call draws all rows of a `vmap`, nested ones too. Its pictures are not those of OpenGL: other anti-aliasing, light that is computed for
each pixel, no fog and no haze. So a policy that learnt from the one should be used with the one.
"""

import copy
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import warp as wp
from mujoco.mjx.third_party.mujoco_warp._src.render_util import create_warp_texture

from jaxrl.ops.worlds import by_rows, finite_rows, where_rows
from jaxrl.types import Array
from jaxrl_envs.physics._engine import engine
from jaxrl_envs.rendering.renderer import camera
from jaxrl_envs.rendering.textures import bank

_UNSIMULATED = ("CONSTRAINT", "ACTUATION", "SENSOR", "AUTORESET")  # disable flags; the last is unknown to it, for it never resets
_KEPT = "headlight_"  # what begins so is compiled in

Draw = Callable[[dict[str, Array], dict[str, Array]], dict[str, Array]]


def _drawn(model: mujoco.MjModel) -> mujoco.MjModel:
    """A copy that is placed without being simulated."""
    own = copy.copy(model)
    for name in _UNSIMULATED[:-1]:
        own.opt.disableflags |= int(getattr(mujoco.mjtDisableBit, f"mjDSBL_{name}"))
    own.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    own.opt.enableflags = 0
    own.geom_contype[:] = own.geom_conaffinity[:] = 0
    return own


def _with_bank(context: Any) -> None:
    """Adds the textures that pictures may wear beside the model's own, numbered after those."""
    textures = bank()
    for made in context._contexts.values():
        own = list(made.textures_registry) + [create_warp_texture(textures, i) for i in range(textures.ntex)]
        made.textures_registry, made.textures = own, wp.array(own, dtype=wp.Texture2D)


def ray_tracer(model: mujoco.MjModel, cameras: Sequence[str], width: int, height: int, varying: Collection[str] = ()) -> Draw:
    """(pose, fields) of one world -> uint8 [height, width, 3] by camera, inside `jit`; batched by `vmap`.

    `pose` holds fields of MjData that place the model, `fields` those of MjModel that differ from the compiled ones; `varying` names
    those that may. The headlight is always the compiled one. Where a row is not finite, its picture is black.

    Raises:
        ValueError: the model has no such camera, uses what MuJoCo Warp lacks, or has no light but the headlight, which is to vary.
    """
    if model.nlight == 0 and any(name.startswith(_KEPT) for name in varying):
        raise ValueError(
            "brightness: MuJoCo Warp compiles the headlight in, and the model has no other light; give it one, or draw with OpenGL"
        )
    views = [camera(model, name).fixedcamid for name in cameras]
    wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)  # else a line for each kernel
    own = _drawn(model)
    try:
        compiled = jax.tree.map(np.asarray, engine.put_model(own, impl="warp"))
    except (NotImplementedError, ValueError) as error:
        raise ValueError(f"MuJoCo Warp cannot draw this model: {error}. Draw with OpenGL instead") from None
    empty = jax.tree.map(np.asarray, engine.make_data(own, impl="warp", naconmax=1, njmax=1))
    pixels = width * height

    @functools.cache
    def context(rows: int) -> Any:
        made = engine.create_render_context(
            own,
            nworld=rows,
            devices=[str(device) for device in wp.get_cuda_devices()] or None,
            cam_res=(width, height),
            cam_active=views,
            render_rgb=True,
            render_depth=False,
            render_seg=False,
            use_precomputed_rays="cam_fovy" not in varying,
        )
        if "mat_texid" in varying:
            _with_bank(made)
        return made

    def replaced(fields: dict[str, Array]) -> engine.Model:
        given = {name: value for name, value in fields.items() if not name.startswith(_KEPT)}
        like = {name: getattr(compiled, name) for name in given}
        return compiled.replace(**{name: jnp.reshape(x, like[name].shape).astype(like[name].dtype) for name, x in given.items()})

    def draw_rows(pose: dict[str, Array], fields: dict[str, Array]) -> dict[str, Array]:
        rows = len(next(iter(pose.values())))
        handle = context(rows).pytree()
        begun = jax.vmap(lambda row: empty.replace(**{name: x.reshape(getattr(empty, name).shape) for name, x in row.items()}))
        finite = finite_rows((pose, fields))
        rest = {
            name: jnp.broadcast_to(jnp.asarray(getattr(empty, name), jnp.float32).reshape(x.shape[1:]), x.shape) for name, x in pose.items()
        }
        data = begun(where_rows(finite, pose, rest))

        def one(fields: dict[str, Array], row: engine.Data) -> Array:
            look = replaced(fields)
            placed = engine.refit_bvh(look, engine.forward(look, row), handle)
            return engine.render(look, placed, handle)[0]

        packed = jnp.where(finite[:, None], jax.vmap(one)(fields, data), 0)
        rgb = jnp.stack([packed >> 16, packed >> 8, packed], -1).astype(jnp.uint8)  # the lowest byte of each
        return {name: rgb[:, i * pixels : (i + 1) * pixels].reshape(rows, height, width, 3) for i, name in enumerate(cameras)}

    on_rows = by_rows(draw_rows)

    def draw(pose: dict[str, Array], fields: dict[str, Array]) -> dict[str, Array]:
        with jax.numpy_rank_promotion("allow"):
            pictures: dict[str, Array] = on_rows({n: jnp.asarray(x, jnp.float32) for n, x in pose.items()}, fields)
        return pictures

    return draw
