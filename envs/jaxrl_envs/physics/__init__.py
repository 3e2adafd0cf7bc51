"""Physics backends: one interface, one module each."""

from importlib.util import find_spec

import jax
import mujoco
from jax.extend.backend import backends

from jaxrl_envs.physics.interface import Fields, Physics, PhysicsState

BACKENDS = ("native", "mjx", "warp")
_NO_WARP = "install it with: pip install 'jaxrl[warp]'"


def _for_device() -> str:
    """The backend for the device that JAX computes on."""
    if jax.default_backend() == "cpu":
        return "native"
    if jax.default_backend() == "gpu" and "cuda" in backends():
        if find_spec("warp"):
            return "warp"
        print(f"physics backend mjx: warp is faster on this GPU, but warp-lang is missing; {_NO_WARP}", flush=True)
    return "mjx"


def make(model: mujoco.MjModel, backend: str = "auto", current_sensors: bool = False) -> Physics:
    """`model` on `backend`; "auto" follows the device: "native" on CPUs, "warp" on NVIDIA GPUs where it is installed, else "mjx".

    See `PhysicsState` for `current_sensors`.

    Raises:
        ValueError: there is no such backend, or it cannot simulate this model.
        ImportError: the backend is not installed.
    """
    if backend == "auto":
        backend = _for_device()
    if backend == "native":
        from jaxrl_envs.physics.native import native

        return native(model, current_sensors)
    if backend == "mjx":  # imported here: it takes a second that the native backend does not need
        from jaxrl_envs.physics.mjx import mjx

        return mjx(model, current_sensors)
    if backend == "warp":
        if not find_spec("warp"):
            raise ImportError(f"physics backend warp: warp-lang is missing; {_NO_WARP}")
        from jaxrl_envs.physics.warp import warp

        return warp(model, current_sensors)
    raise ValueError(f"physics backend {backend!r} is unknown; there are auto, {', '.join(BACKENDS)}")


__all__ = ["BACKENDS", "Fields", "Physics", "PhysicsState", "make"]
