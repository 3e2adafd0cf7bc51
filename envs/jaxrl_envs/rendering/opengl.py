"""OpenGL without a display."""

import functools
import importlib
import os
import platform
import subprocess
import sys
from typing import Any

_INSTALL = "On Debian or Ubuntu: apt-get install libegl1 libgl1 libgl1-mesa-dri (or libosmesa6)"
# By operating system; elsewhere a window system must be there.
_PLATFORMS = {"Linux": ("egl", "osmesa"), "Darwin": ("cgl",)}
_PROBE = "from mujoco.{0} import GLContext as C; c = C(8, 8); c.make_current(); c.free()"
_PROBE_RENDERER = _PROBE.replace("c.free", "from OpenGL import GL; print(GL.glGetString(GL.GL_RENDERER).decode(), end=''); c.free")


def _opens(name: str) -> bool:
    """Whether a context can be made."""
    return _asked(_PROBE.format(name)) is not None


@functools.cache
def _renderer(name: str) -> str:
    """What draws in a context, such as "llvmpipe (LLVM 15.0.6, 256 bits)"."""
    return _asked(_PROBE_RENDERER.format(name)) or ""


def _asked(code: str) -> str | None:
    """What it prints, in another process: a failed attempt binds PyOpenGL to that platform, or crashes. None where it failed."""
    environment = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    try:
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout if ran.returncode == 0 else None


@functools.cache
def open_gl() -> str:
    """The platform through which pictures are drawn: the one in the environment variable MUJOCO_GL, else the first that works.

    Raises:
        RuntimeError: none works; the message says what to install.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    candidates = (wanted,) if wanted in ("egl", "osmesa", "glfw", "cgl") else _PLATFORMS.get(platform.system(), ("glfw",))
    for name in candidates:
        if _opens(name):
            return name
    raise RuntimeError(f"rendering needs OpenGL, and none of {', '.join(candidates)} works here. {_INSTALL}")


def context(width: int, height: int) -> Any:
    """A new OpenGL context, current in the calling thread, which is the only one to use it. To be freed by `free()`.

    Raises:
        RuntimeError: there is no OpenGL; the message says what to install. Or it is Mesa's, beside TensorFlow, where drawing would crash.
    """
    # Mesa draws with threads of its own by default, which hold each other up on small pictures. The one that calls is faster, and
    # contexts in several threads then share out the cores. Read when Mesa opens its device, so it must stand before.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    name = open_gl()
    _refuse_beside_tensorflow(name)
    module: Any = importlib.import_module(f"mujoco.{name}")
    made = module.GLContext(width, height)
    made.make_current()
    return made


def _refuse_beside_tensorflow(name: str) -> None:
    """Both orders crash: with Mesa's LLVM TensorFlow ends while it is imported, with TensorFlow's Mesa does at the first picture."""
    if sys.modules.get("tensorflow") is not None and "llvm" in (drawn_by := _renderer(name)).lower():
        raise RuntimeError(
            f"{drawn_by} draws here, and TensorFlow is loaded in this process: both bring LLVM, and the first picture would crash them. "
            "Draw in a process without TensorFlow (record there, as LeRobot or by `jaxrl eval --record`, and convert to RLDS afterwards)"
        )
