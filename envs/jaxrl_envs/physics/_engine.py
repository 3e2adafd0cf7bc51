"""`mujoco.mjx`, imported without the lines it prints where its optional Warp back end is not installed."""

import contextlib
import io

with contextlib.redirect_stdout(io.StringIO()):
    from mujoco import mjx as engine

__all__ = ["engine"]
