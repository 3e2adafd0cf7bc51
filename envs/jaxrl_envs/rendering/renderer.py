"""One model drawn by one OpenGL context, for the thread that made it."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from jaxrl.ops.suggestion import suggestion
from jaxrl_envs.rendering import opengl
from jaxrl_envs.rendering.textures import BANK_SIZE, bank

Rows = Mapping[str, np.ndarray]  # [N, ...] by the name of a field of MjData or MjModel
_FLAGS = mujoco.mjtRndFlag
_PLANE_CELLS = 8  # along a side, at which light is computed
_FAR = 10.0  # half the side of what stands for an infinite plane, in units of the farthest distance that is drawn
_HEADLIGHT = ("ambient", "diffuse", "specular")


class Quality(NamedTuple):
    """What a picture is worth. In software, shadows, reflections and multisampling cost some ten times the rest."""

    visual: Mapping[str, int]  # of `MjModel.vis.quality`
    off: tuple[mujoco.mjtRndFlag, ...]
    coarse_planes: bool  # MuJoCo cuts a plane into up to 200 x 200 cells: 40 000 corners to light in each picture


VIDEO = Quality({"offsamples": 0, "shadowsize": 0}, (_FLAGS.mjRND_SHADOW, _FLAGS.mjRND_REFLECTION), coarse_planes=False)
TRAINING = Quality(
    {"offsamples": 0, "shadowsize": 0, "numslices": 10, "numstacks": 6, "numquads": 1},
    (*VIDEO.off, _FLAGS.mjRND_SKYBOX, _FLAGS.mjRND_FOG, _FLAGS.mjRND_HAZE),
    coarse_planes=True,
)


def camera_names(model: mujoco.MjModel) -> list[str]:
    """The names of the model's cameras."""
    return [model.camera(i).name for i in range(model.ncam)]


def camera(model: mujoco.MjModel, name: str | None) -> mujoco.MjvCamera:
    """The model's camera of that name, or a free one.

    Raises:
        ValueError: it has no such camera.
    """
    view = mujoco.MjvCamera()
    if name is None:
        mujoco.mjv_defaultFreeCamera(model, view)
        return view
    names = camera_names(model)
    if name not in names:
        raise ValueError(f"camera {name!r} is unknown; {suggestion(name, names)}")
    view.type = mujoco.mjtCamera.mjCAMERA_FIXED
    view.fixedcamid = names.index(name)
    return view


def field(model: mujoco.MjModel, name: str) -> np.ndarray:
    """A view of what is drawn of a model: one of its arrays, or `headlight_ambient`, `headlight_diffuse`, `headlight_specular`."""
    prefix, _, rest = name.partition("_")
    if prefix == "headlight" and rest in _HEADLIGHT:
        return getattr(model.vis.headlight, rest)
    return getattr(model, name)


def _coarsen(model: mujoco.MjModel) -> None:
    """Cuts planes into few cells, and replaces infinite ones by large ones: MuJoCo cuts those into as many as it can."""
    half_side = _FAR * model.vis.map.zfar * model.stat.extent
    for plane in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE):
        size, material = model.geom_size[plane], model.geom_matid[plane]
        if (size[:2] <= 0).any():
            stretched = material >= 0 and (model.mat_texid[material] >= 0).any() and not model.mat_texuniform[material]
            if stretched:  # a texture that would be stretched over the whole plane stays with the infinite one
                continue
            size[:2] = np.where(size[:2] <= 0, half_side, size[:2])
        size[2] = max(size[2], 2 * size[:2].max() / _PLANE_CELLS)


def _prepared(model: mujoco.MjModel, quality: Quality, width: int, height: int) -> mujoco.MjModel:
    """A copy of `model` to draw and to write to."""
    own = copy.copy(model)
    for name, value in quality.visual.items():
        setattr(own.vis.quality, name, value)
    own.vis.global_.offwidth, own.vis.global_.offheight = width, height
    if quality.coarse_planes:
        _coarsen(own)
    return own


class Renderer:
    """Draws states of one model. Bound to the thread that makes it, as its OpenGL context is."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int, quality: Quality):
        self._model = _prepared(model, quality, width, height)
        self._data = mujoco.MjData(self._model)
        self._written: dict[str, np.ndarray] = {}  # what fields held before they were first written to
        self._context = opengl.context(width, height)
        self._scene = mujoco.MjvScene(self._model, maxgeom=2 * self._model.ngeom + 100)
        for flag in quality.off:
            self._scene.flags[flag] = False
        scale = mujoco.mjtFontScale.mjFONTSCALE_100.value
        self._drawing = mujoco.MjrContext(self._model, scale)
        # More textures than the model has, numbered after its own: they live in a second drawing context on the same OpenGL context.
        self._bank = mujoco.MjrContext(bank(), scale)
        first, last = self._model.ntex, self._model.ntex + BANK_SIZE
        self._drawing.texture[first:last] = self._bank.texture[:BANK_SIZE]
        self._drawing.textureType[first:last] = self._bank.textureType[:BANK_SIZE]
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._drawing)
        self._area = mujoco.MjrRect(0, 0, width, height)
        self._option = mujoco.MjvOption()
        self._picture = np.empty((height, width, 3), np.uint8)

    def draw(self, pose: Rows, fields: Rows, views: Sequence[mujoco.MjvCamera], out: Sequence[NDArray[np.uint8]]) -> None:
        """Writes row i of `out[k]`, [N, height, width, 3], from row i of `pose` and `fields` as `views[k]` sees it.

        A row depends on nothing but itself; one that is not finite is black.
        """
        for name, own in self._written.items():
            field(self._model, name)[:] = own
        for name in fields:
            self._written.setdefault(name, field(self._model, name).copy())
        targets = [(field(self._model, name), values) for name, values in fields.items()]
        targets += [(getattr(self._data, name), values) for name, values in pose.items()]
        for row in range(len(out[0])):
            if not all(np.isfinite(values[row]).all() for _, values in targets):
                for pictures in out:
                    pictures[row] = 0
                continue
            for target, values in targets:
                target[:] = values[row].reshape(target.shape)
            self._place()
            for view, pictures in zip(views, out, strict=True):
                self._draw(view)
                pictures[row] = self._picture[::-1]  # OpenGL's first row is the lowest

    def _place(self) -> None:
        model, data = self._model, self._data
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        mujoco.mj_flex(model, data)
        mujoco.mj_tendon(model, data)

    def _draw(self, view: mujoco.MjvCamera) -> None:
        # The headlight and infinite planes follow the camera as the scene has it. By itself, `mjv_updateScene` moves that one last,
        # so that they would follow the camera of the picture before.
        mujoco.mjv_updateCamera(self._model, self._data, view, self._scene)
        every = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, self._data, self._option, None, view, every, self._scene)
        mujoco.mjr_render(self._area, self._scene, self._drawing)
        mujoco.mjr_readPixels(self._picture, None, self._area, self._drawing)

    def close(self) -> None:
        """Frees the context, in the thread that made it. Nothing can be drawn afterwards."""
        self._bank.free()
        self._drawing.free()
        self._context.free()


def rows(pose: Mapping[str, Any], model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """The fields of a pose as float64 [N, ...].

    Raises:
        ValueError: a field has another shape than the model's data, or another number of rows.
    """
    data, found = mujoco.MjData(model), {name: np.asarray(values, np.float64) for name, values in pose.items()}
    for name, values in found.items():
        shape = getattr(data, name).shape
        if values.shape[1:] != shape or values.ndim != 1 + len(shape):
            wanted = ", ".join(("frames", *map(str, shape)))
            raise ValueError(f"{name}: expected the shape ({wanted}), got {values.shape}")
    if len({len(values) for values in found.values()}) != 1:
        counts = ", ".join(f"{name} {len(values)}" for name, values in found.items())
        raise ValueError(f"the fields of a pose must have equally many rows, but they have: {counts or 'no field'}")
    return found
