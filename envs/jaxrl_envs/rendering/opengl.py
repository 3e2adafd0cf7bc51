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
        RuntimeError: there is no OpenGL; the message says what to install.
    """
    # Mesa draws with threads of its own by default, which hold each other up on small pictures. The one that calls is faster, and
    # contexts in several threads then share out the cores. Read when Mesa opens its device, so it must stand before.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    module: Any = importlib.import_module(f"mujoco.{open_gl()}")
    made = module.GLContext(width, height)
    made.make_current()
    return made
