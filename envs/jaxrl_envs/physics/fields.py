"""Fields of the model that differ between worlds, by name: an array of MjModel, or a number of MjOption, such as `opt.gravity`."""

from collections.abc import Iterable

import mujoco
import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl_envs.physics.interface import Fields

OPTION = "opt."


def own_value(model: mujoco.MjModel, name: str) -> np.ndarray:
    """The field as compiled, in MuJoCo's own shape and type. Raises AttributeError where there is none of this name."""
    owner = model.opt if name.startswith(OPTION) else model
    return np.asarray(getattr(owner, name.removeprefix(OPTION)))


def without(model: mujoco.MjModel, names: Iterable[str]) -> dict[str, np.ndarray]:
    """[...] bool by name: the entries of a field that an engine leaves out of its program because they are zero in the model.

    Fluid counts as left out only where density, viscosity and wind are all zero, as does the compensation of gravity.
    """
    out: dict[str, np.ndarray] = {}
    for name in names:
        own = own_value(model, name)
        if name in FLUID:
            out[name] = np.full(own.shape, not any(own_value(model, other).any() for other in FLUID))
        elif name == "body_gravcomp":
            out[name] = np.full(own.shape, not own.any())
        else:
            out[name] = own == 0
    return out


FLUID = ("opt.density", "opt.viscosity", "opt.wind")


def check_fields(model: mujoco.MjModel, backend: str, varying: frozenset[str], left_out: dict[str, np.ndarray], fields: Fields) -> None:
    """Looks at names and shapes of the fields of one world.

    Raises:
        ValueError: there is no such field, it has another shape, the backend cannot vary it between worlds, or leaves all of it out.
    """
    for name, value in fields.items():
        if name not in varying:
            raise ValueError(f"field {name}: physics backend {backend} cannot vary it between worlds; {suggestion(name, sorted(varying))}")
        shape = own_value(model, name).shape
        if value.shape != shape:
            raise ValueError(f"field {name}: expected the model's shape {shape}, got {value.shape}")
        if name in left_out and left_out[name].size and left_out[name].all():
            raise ValueError(
                f"field {name}: zero everywhere in the model, so {backend} leaves its effect out; compile it with positive values"
            )
