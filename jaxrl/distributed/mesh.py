"""The devices of a run as a mesh."""

import jax
from jax.sharding import AxisType, Mesh


def data_mesh(devices: int) -> Mesh | None:
    """The first `devices` devices along the axis `data`; None for one device, which needs no mesh.

    Raises:
        ValueError: there are fewer devices.
    """
    if devices == 1:
        return None
    if devices > jax.device_count():
        raise ValueError(f"devices is {devices}, but there are {jax.device_count()}")
    # Auto: the compiler shares out whatever nobody has said how to.
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
