"""Frames of a simulation, drawn on the host by MuJoCo's OpenGL renderer, without a display.

Nothing here is imported by training. OpenGL is opened when the first frame is asked for: through EGL (GPU or Mesa), else OSMesa.
"""

import copy
import functools
import importlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

_INSTALL = "On Debian or Ubuntu: apt-get install libegl1 libgl1 libgl1-mesa-dri (or libosmesa6)"
# By operating system; elsewhere a window system must be there.
_PLATFORMS = {"Linux": ("egl", "osmesa"), "Darwin": ("cgl",)}
_PROBE = "from mujoco.{0} import GLContext as C; c = C(8, 8); c.make_current(); c.free()"


def _opens(name: str) -> bool:
    """Whether a context can be made. Asked in another process: a failed attempt binds PyOpenGL to that platform, or crashes."""
    environment = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    command = [sys.executable, "-c", _PROBE.format(name)]
    try:
        return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@functools.cache
def open_gl() -> str:
    """The platform through which frames are drawn: the one in the environment variable MUJOCO_GL, else the first that works.

    Raises:
        RuntimeError: none works; the message says what to install.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    candidates = (wanted,) if wanted in ("egl", "osmesa", "glfw", "cgl") else _PLATFORMS.get(platform.system(), ("glfw",))
    for name in candidates:
        if _opens(name):
            return name
    raise RuntimeError(f"rendering needs OpenGL, and none of {', '.join(candidates)} works here. {_INSTALL}")


@contextmanager
def _context(width: int, height: int) -> Iterator[None]:
    """An OpenGL context, current within the block."""
    module: Any = importlib.import_module(f"mujoco.{open_gl()}")
    context = module.GLContext(width, height)
    try:
        context.make_current()
        yield
    finally:
        context.free()


def _fast(model: mujoco.MjModel, width: int, height: int) -> mujoco.MjModel:
    """A copy of `model` that draws some ten times faster in software: no shadow maps, no multisampling."""
    quick = copy.copy(model)
    quick.vis.quality.offsamples = 0
    quick.vis.quality.shadowsize = 0
    quick.vis.global_.offwidth = width
    quick.vis.global_.offheight = height
    return quick


def _camera(model: mujoco.MjModel, name: str | None) -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    if name is None:
        mujoco.mjv_defaultFreeCamera(model, camera)
        return camera
    names = [model.camera(i).name for i in range(model.ncam)]
    if name not in names:
        raise ValueError(f"camera {name!r} is unknown; the model has {', '.join(names) or 'none'}")
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
    camera.fixedcamid = names.index(name)
    return camera


def frames(
    model: mujoco.MjModel, qpos: NDArray[np.floating], width: int = 640, height: int = 480, camera: str | None = None
) -> NDArray[np.uint8]:
    """Pictures of the joint positions `qpos` [N, nq], uint8 [N, height, width, 3]; from a free camera if none is named.

    Raises:
        ValueError: `qpos` has another shape, or the model has no such camera.
        RuntimeError: there is no OpenGL; the message says what to install.
    """
    qpos = np.asarray(qpos, np.float64)
    if qpos.ndim != 2 or qpos.shape[1] != model.nq:
        raise ValueError(f"qpos: expected the shape (frames, {model.nq}), got {qpos.shape}")
    view = _camera(model, camera)
    quick = _fast(model, width, height)
    data = mujoco.MjData(quick)
    out = np.empty((len(qpos), height, width, 3), np.uint8)
    with _context(width, height):
        scene = mujoco.MjvScene(quick, maxgeom=2 * quick.ngeom + 100)
        scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        drawing = mujoco.MjrContext(quick, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, drawing)
        area = mujoco.MjrRect(0, 0, width, height)
        for position, picture in zip(qpos, out, strict=True):
            data.qpos[:] = position
            mujoco.mj_kinematics(quick, data)
            mujoco.mj_comPos(quick, data)
            mujoco.mj_camlight(quick, data)
            mujoco.mjv_updateScene(quick, data, mujoco.MjvOption(), None, view, mujoco.mjtCatBit.mjCAT_ALL.value, scene)
            mujoco.mjr_render(area, scene, drawing)
            mujoco.mjr_readPixels(picture, None, area, drawing)
        drawing.free()
    return out[:, ::-1]  # OpenGL's first row is the lowest
