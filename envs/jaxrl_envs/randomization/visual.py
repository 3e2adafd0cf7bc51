"""What a picture depends on beside the state: lights, colours, textures and cameras, drawn anew in each episode.

A draw is a dict of fields of MjModel, as the physics parameters are: pictures are a pure function of the state and of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jaxlie
import mujoco
import numpy as np

from jaxrl.ops.draws import uniforms
from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Array, Key
from jaxrl_envs.physics import Fields
from jaxrl_envs.rendering.renderer import field
from jaxrl_envs.rendering.textures import BANK_SIZE

Interval = tuple[float, float]
_COLOUR = mujoco.mjtTextureRole.mjTEXROLE_RGB.value
_UNSET = np.array([0.5, 0.5, 0.5, 1.0], np.float32)  # the colour of a geom that shows its material's


@dataclass(frozen=True)
class Visual:
    """How far pictures differ between episodes; every draw is uniform, and the defaults keep the model's own look.

    `materials` and `geoms` are the names of those whose colours and textures change; None is all of them.
    """

    light_shift: float = 0.0  # m along each axis
    light_turn: float = 0.0  # degrees about each axis
    brightness: Interval = (1.0, 1.0)  # factor on each light, the headlight too
    recolour: float = 0.0  # share of an arbitrary colour in that of a material or geom
    retexture: float = 0.0  # probability that a material wears another texture
    materials: tuple[str, ...] | None = None
    geoms: tuple[str, ...] | None = None
    camera_shift: float = 0.0  # m along each axis
    camera_turn: float = 0.0  # degrees about each of the camera's axes
    field_of_view: Interval = (1.0, 1.0)  # factor on the vertical angle

    def __post_init__(self) -> None:
        for name in ("light_shift", "light_turn", "recolour", "retexture", "camera_shift", "camera_turn"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")
        for name in ("recolour", "retexture"):
            if getattr(self, name) > 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but is a share of at most 1")
        for name in ("light_turn", "camera_turn"):
            if getattr(self, name) > 180:
                raise ValueError(f"{name} is {getattr(self, name)} degrees, but at most 180 make sense")
        for name in ("brightness", "field_of_view"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the lower bound {low} is above the upper bound {high}")
        if self.brightness[0] < 0:
            raise ValueError(f"brightness: the lower bound {self.brightness[0]} is negative")
        if self.field_of_view[0] <= 0:
            raise ValueError(f"field_of_view: the lower bound {self.field_of_view[0]} is not positive")


# Which fields of MjModel, and of its headlight, a setting touches; the others stay as compiled.
_TOUCHES = {
    "light_shift": ("light_pos", "light_pos0", "light_poscom0"),
    "light_turn": ("light_dir", "light_dir0"),
    "brightness": ("light_ambient", "light_diffuse", "light_specular", "headlight_ambient", "headlight_diffuse", "headlight_specular"),
    "recolour": ("mat_rgba", "geom_rgba"),
    "retexture": ("mat_texid",),
    "camera_shift": ("cam_pos", "cam_pos0", "cam_poscom0"),
    "camera_turn": ("cam_quat", "cam_mat0"),
    "field_of_view": ("cam_fovy", "cam_intrinsic"),
}


def _varied(visual: Visual) -> dict[str, Any]:
    """The settings that change anything."""
    return {name: getattr(visual, name) for name in _TOUCHES if getattr(visual, name) not in (0.0, (1.0, 1.0))}


def nominal(model: mujoco.MjModel, visual: Visual) -> Fields:
    """The model's own look, with the same tree as those drawn from `visual`."""
    touched = sorted(name for setting in _varied(visual) for name in _TOUCHES[setting])
    own = {name: np.asarray(field(model, name)) for name in touched}
    return {name: jnp.asarray(values, jnp.float32 if values.dtype.kind == "f" else jnp.int32) for name, values in own.items()}


def _chosen(names: tuple[str, ...] | None, known: Sequence[str], what: str) -> np.ndarray:
    """Which of the model's are meant, [n] bool."""
    for name in names or ():
        if not name or name not in known:
            raise ValueError(f"{what}: {name!r} is unknown; {suggestion(name, [other for other in known if other])}")
    return np.array([names is None or name in names for name in known], bool)


def _painted(model: mujoco.MjModel, visual: Visual) -> tuple[np.ndarray, np.ndarray]:
    """Which materials [nmat] and geoms [ngeom] change their colour. Of all geoms, those that do not show their material's."""
    materials = _chosen(visual.materials, [model.material(i).name for i in range(model.nmat)], "materials")
    geoms = _chosen(visual.geoms, [model.geom(i).name for i in range(model.ngeom)], "geoms")
    if visual.geoms is None:
        geoms &= (model.geom_matid < 0) | (model.geom_rgba != _UNSET).any(1)
    return materials, geoms


def _turned(vectors: Array, angles: Array) -> Array:
    """Unit vectors [n, 3] turned by the rotation vectors `angles` [n, 3] rad."""
    return jax.vmap(lambda vector, angle: jaxlie.SO3.exp(angle) @ vector)(vectors, angles)


def _lit(own: Fields, factors: Array) -> Fields:
    """The last of `factors` [nlight + 1] is the headlight's."""
    return {name: own[name] * (factors[-1] if name.startswith("headlight") else factors[:-1, None]) for name in _TOUCHES["brightness"]}


def _aimed(own: Fields, angles: Array) -> Fields:
    """Cameras turned about their own axes by `angles` [ncam, 3] rad: those that turn with their body, and those that do not."""
    turns = jax.vmap(jaxlie.SO3.exp)(angles)
    quat = jax.vmap(lambda quat, turn: (jaxlie.SO3(quat) @ turn).wxyz)(own["cam_quat"], turns)
    mat = jnp.reshape(own["cam_mat0"], (-1, 3, 3)) @ jax.vmap(lambda turn: turn.as_matrix())(turns)
    return {"cam_quat": quat, "cam_mat0": jnp.reshape(mat, own["cam_mat0"].shape)}


def _zoomed(own: Fields, factors: Array) -> Fields:
    """The focal lengths follow the angle, for cameras that have some."""
    fovy = jnp.minimum(own["cam_fovy"] * factors, 179.0)
    focal = jnp.tan(jnp.deg2rad(own["cam_fovy"]) / 2) / jnp.tan(jnp.deg2rad(fovy) / 2)
    lengths, centre = own["cam_intrinsic"][:, :2], own["cam_intrinsic"][:, 2:]
    return {"cam_fovy": fovy, "cam_intrinsic": jnp.concatenate([lengths * focal[:, None], centre], 1)}


def distribution(model: mujoco.MjModel, visual: Visual) -> Callable[[Key], Fields]:
    """key -> the look of a new episode: fields of `model`, those of `nominal`.

    Raises:
        ValueError: the model has no such material or geom.
    """
    own, varied = nominal(model, visual), _varied(visual)
    materials, geoms = _painted(model, visual)
    shown = np.where((model.geom_matid >= 0) & (model.geom_rgba == _UNSET).all(1), model.geom_matid, -1)
    geom_colours = np.where(shown[:, None] >= 0, model.mat_rgba[shown] if model.nmat else 0.0, model.geom_rgba)[:, :3]
    sizes = {
        "light_shift": 3 * model.nlight,
        "light_turn": 3 * model.nlight,
        "brightness": model.nlight + 1,
        "recolour": 3 * (model.nmat + model.ngeom),
        "retexture": 2 * model.nmat,
        "camera_shift": 3 * model.ncam,
        "camera_turn": 3 * model.ncam,
        "field_of_view": model.ncam,
    }

    def shifted(setting: str, draws: Array) -> Fields:
        shift = varied[setting] * (2 * draws.reshape(-1, 3) - 1)
        return {name: own[name] + shift for name in _TOUCHES[setting]}

    def angles(setting: str, draws: Array) -> Array:
        return math.radians(varied[setting]) * (2 * draws.reshape(-1, 3) - 1)

    def within(setting: str, draws: Array) -> Array:
        low, high = varied[setting]
        return low + (high - low) * draws

    def recoloured(draws: Array) -> Fields:
        share, mixed = varied["recolour"], draws.reshape(-1, 3)

        def painted(name: str, colours: Array, mixed: Array, which: np.ndarray) -> Array:
            rgb = (1 - share) * colours + share * mixed
            return own[name].at[:, :3].set(jnp.where(which[:, None], rgb, own[name][:, :3]))

        return {
            "mat_rgba": painted("mat_rgba", own["mat_rgba"][:, :3], mixed[: model.nmat], materials),
            "geom_rgba": painted("geom_rgba", jnp.asarray(geom_colours, jnp.float32), mixed[model.nmat :], geoms),
        }

    def retextured(draws: Array) -> Fields:
        whether, which = draws.reshape(2, -1)
        other = model.ntex + (which * BANK_SIZE).astype(jnp.int32)
        changed = jnp.where((whether < varied["retexture"]) & materials, other, own["mat_texid"][:, _COLOUR])
        return {"mat_texid": own["mat_texid"].at[:, _COLOUR].set(changed)}

    looks: dict[str, Callable[[Array], Fields]] = {
        "light_shift": lambda draws: shifted("light_shift", draws),
        "light_turn": lambda draws: {n: _turned(own[n], angles("light_turn", draws)) for n in _TOUCHES["light_turn"]},
        "brightness": lambda draws: _lit(own, within("brightness", draws)),
        "recolour": recoloured,
        "retexture": retextured,
        "camera_shift": lambda draws: shifted("camera_shift", draws),
        "camera_turn": lambda draws: _aimed(own, angles("camera_turn", draws)),
        "field_of_view": lambda draws: _zoomed(own, within("field_of_view", draws)),
    }

    def sample(key: Key) -> Fields:
        draws = uniforms(key, **{setting: sizes[setting] for setting in varied})
        changed: Fields = {}
        for setting in varied:
            changed |= looks[setting](draws[setting])
        return changed

    return sample
