"""Physics backends: one interface, one module each."""

import jax
import mujoco

from jaxrl_envs.physics.interface import Fields, Physics, PhysicsState

BACKENDS = ("native", "mjx")


def make(model: mujoco.MjModel, backend: str = "auto", current_sensors: bool = False) -> Physics:
    """`model` on `backend`; "auto" is "native" where JAX runs on a CPU and "mjx" elsewhere. See `PhysicsState` for `current_sensors`.

    Raises:
        ValueError: there is no such backend, or it cannot simulate this model.
    """
    if backend == "auto":
        backend = "native" if jax.default_backend() == "cpu" else "mjx"
    if backend == "native":
        from jaxrl_envs.physics.native import native

        return native(model, current_sensors)
    if backend == "mjx":  # imported here: it takes a second that the native backend does not need
        from jaxrl_envs.physics.mjx import mjx

        return mjx(model, current_sensors)
    raise ValueError(f"physics backend {backend!r} is unknown; there are auto, {', '.join(BACKENDS)}")


__all__ = ["BACKENDS", "Fields", "Physics", "PhysicsState", "make"]
