"""From the pictures of an observation to maps of features."""

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.networks import _pretrained as pretrained
from jaxrl.networks.vision import resnet, vit
from jaxrl.networks.vision.interface import Backbone, Features
from jaxrl.ops import augmentation
from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Array, Key, Observation, Params, PyTree, Spec, StatefulNetwork

_RESNETS = {"resnet18": resnet.Config(), "resnet34": resnet.Config(resnet.BLOCKS[34]), "resnet_debug": resnet.Config((1, 1), width=16)}
KINDS = (*_RESNETS, *vit.SIZES)


@dataclass(frozen=True)
class Config:
    """`kind` is one of `KINDS`, with random weights or those of a file of safetensors (`weights`, whose names may begin with a `prefix`).

    Each camera has a backbone of its own unless they are `shared`. One that is `frozen` gets no gradient; name `backbone` in the
    algorithm's `frozen` too, which spares its optimizer state and keeps weight decay from it. `norm` is that of a ResNet: weights of others
    need "batch".

    `crop` (height, width) is a part at a random place while training, and otherwise the middle. What follows is for training alone, by a
    draw of its own for each camera and the same for all steps of a history: a `shift` of up to so many pixels, a `rotation` of up to so
    many degrees, and another light (`ops.augmentation`). `cameras` names those to look at, without "image/"; none named are all.
    """

    kind: str = "resnet18"
    norm: Literal["group", "batch"] = "group"
    shared: bool = False
    frozen: bool = False
    weights: str = ""
    prefix: str | None = None
    bfloat16: bool = False  # whether the backbone computes in it
    remat: bool = False  # whether a transformer computes layers again in place of keeping what they hold
    cameras: tuple[str, ...] = ()
    crop: tuple[int, ...] = ()
    shift: int = 0
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no backbone {self.kind!r}; {suggestion(self.kind, KINDS)}")
        if self.norm == "batch" and self.kind not in _RESNETS:
            raise ValueError(f"norm: has no effect on {self.kind}; leave it out")
        if self.remat and self.kind in _RESNETS:
            raise ValueError(f"remat: has no effect on {self.kind}; leave it out")
        if self.prefix is not None and not self.weights:
            raise ValueError("prefix: has no effect without weights; leave it out")
        if self.norm == "batch" and not self.weights:
            raise ValueError("norm is 'batch', which takes the statistics of a file of weights: name one, or set it to 'group'")
        if self.crop and (len(self.crop) != 2 or min(self.crop) < 1):
            raise ValueError(f"crop is {self.crop}, but must be (height, width), both at least 1, or ()")
        for name, most in (("shift", None), ("rotation", 180), ("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0.5)):
            value = getattr(self, name)
            if value < 0 or (most is not None and value > most):
                raise ValueError(f"{name} is {value}, but must be at least 0" + (f" and at most {most}" if most is not None else ""))


class Cameras(NamedTuple):
    """`network` maps an observation [B, ...] to the `Features` [B, steps, ...] of each camera by name; parameters are {"backbone": ...}."""

    network: StatefulNetwork
    grids: dict[str, tuple[int, int]]  # rows and columns of each camera's map
    tokens: int  # how many there are beside the map
    size: int  # of a feature
    steps: int  # of history


def backbone(config: Config) -> Backbone:
    """That of the config's kind, with its weights."""
    if config.kind in _RESNETS:
        made = resnet.resnet(replace(_RESNETS[config.kind], norm=config.norm))
    else:
        made = vit.vit(replace(vit.SIZES[config.kind], remat=config.remat))
    if not config.weights:
        return made
    return made._replace(network=pretrained.from_file(made.network, pretrained.NAMINGS[made.family], config.weights, config.prefix))


def names_of_cameras(config: Config, observation: Spec, who: str) -> tuple[str, ...]:
    """`image/<camera>` of those to look at, sorted; none where there is none.

    Raises:
        ValueError: one that the config names is not there; `who` is the network that asks.
    """
    offered = sorted(name for name in observation if name.startswith("image/"))
    if missing := [name for name in config.cameras if f"image/{name}" not in offered]:
        raise ValueError(f"{who}: there is no camera {missing[0]!r}; offered are {', '.join(offered) or 'none'}")
    return tuple(name for name in offered if not config.cameras or name.removeprefix("image/") in config.cameras)


def _sizes(config: Config, observation: Spec, names: tuple[str, ...], who: str) -> tuple[dict[str, tuple[int, int]], int]:
    """Height and width of each camera's pictures as a backbone sees them, and the steps of their history."""
    sizes, steps = {}, {}
    for name in names:
        shape, dtype = observation[name].shape, observation[name].dtype
        if len(shape) not in (3, 4) or shape[-1] != 3 or dtype != "uint8":
            expected = "pictures [height, width, 3] or [history, height, width, 3] of uint8"
            raise ValueError(f"{who} takes {expected}, but {name} has the shape {shape} of {dtype}")
        height, width = int(shape[-3]), int(shape[-2])
        if config.crop and (config.crop[0] > height or config.crop[1] > width):
            raise ValueError(f"{who}: crop is {config.crop}, but {name} is {height} x {width}; make it smaller")
        sizes[name] = (config.crop[0], config.crop[1]) if config.crop else (height, width)
        steps[name] = int(shape[0]) if len(shape) == 4 else 1
    if len(set(steps.values())) > 1:
        raise ValueError(f"{who} takes pictures of one history, but they differ: {steps}")
    return sizes, next(iter(steps.values()))


def _seen(config: Config, x: Array, key: Key | None) -> Array:
    """Pictures uint8 [B, steps, height, width, 3] as float32 in [0, 1], cropped, and with a key made different."""
    batch, steps = x.shape[:2]
    parts: list[Any] = [None] * 4 if key is None else list(jax.random.split(key, 4))
    x = jnp.moveaxis(x, 1, 3).reshape(batch, *x.shape[2:4], steps * 3)  # steps beside the colours, so that they move alike
    if config.crop:
        x = augmentation.crop(x, config.crop[0], config.crop[1], parts[0])
    if config.shift and key is not None:
        x = augmentation.random_shift(x, parts[1], config.shift)
    x = x.astype(jnp.float32) / 255.0
    if config.rotation and key is not None:
        x = augmentation.random_rotation(x, parts[2], config.rotation)
    x = jnp.moveaxis(x.reshape(*x.shape[:3], steps, 3), 3, 1)
    light = (config.brightness, config.contrast, config.saturation, config.hue)
    return augmentation.colour_jitter(x, parts[3], *light) if any(light) and key is not None else x


def _there(x: Observation, name: str, spec: tuple[int | str, ...], found: Features) -> Features:
    """`found` [B, steps, ...], 0 in rows where `present/<name>`, [B] or [B, steps], says that there is no such camera.

    Data have 0 there at steps before an episode's first too, at which the first is shown again, as it is to a policy: what counts is the
    present step.
    """
    flag = x.get(f"present/{name}")
    if flag is None:
        return found
    there = (flag[..., -1] if len(spec) == 4 else flag) > 0
    return jax.tree.map(lambda leaf: jnp.where(there.reshape(*there.shape, *(1,) * (leaf.ndim - there.ndim)), leaf, 0.0), found)


def cameras(config: Config, observation: Spec, who: str) -> Cameras:
    """What the config looks at in an observation that holds at least one picture.

    An observation may say of a camera that it is not there, `present/image/<camera>` 0: its features are 0 then, whatever its picture, so
    that what is learnt behind them stands for it.

    Raises:
        ValueError: pictures are no uint8 [height, width, 3] or [history, height, width, 3], are smaller than the crop or do not fit the
            backbone, have different histories, or a camera is not there; `who` is the network that asks.
    """
    names, eye = names_of_cameras(config, observation, who), backbone(config)
    if not names:
        raise ValueError(f"{who} needs at least one image/<camera> observation; offered are {', '.join(sorted(observation)) or 'none'}")
    sizes, steps = _sizes(config, observation, names, who)
    grids = {}
    for name, size in sizes.items():
        try:
            grids[name.removeprefix("image/")] = eye.grid(*size)
        except ValueError as error:
            raise ValueError(f"{who}: {config.kind} {error} as {name}; resize the pictures, or set crop") from None
    whose = {name: "shared" if config.shared else name.removeprefix("image/") for name in names}
    alike = sorted({(whose[name], sizes[name]) for name in names})
    groups = [tuple(name for name in names if (whose[name], sizes[name]) == group) for group in alike]
    normalise = tuple(jnp.asarray(numbers).reshape(1, 1, 1, 3) for numbers in (eye.mean, eye.deviation))

    def init(key: Key) -> tuple[Params, PyTree]:
        owners = sorted(set(whose.values()))
        made = {owner: eye.network.init(own) for owner, own in zip(owners, jax.random.split(key, len(owners)), strict=True)}
        params, statistics = ({owner: pair[i] for owner, pair in made.items()} for i in range(2))
        return {"backbone": params}, {"backbone": statistics} if jax.tree.leaves(statistics) else {}

    def look(params: Params, statistics: PyTree, x: Array) -> Features:
        """Pictures [N, height, width, 3] in [0, 1]."""
        x = (x - normalise[0]) / normalise[1]
        if config.frozen:
            params = jax.lax.stop_gradient(params)
        if config.bfloat16:
            params, x = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (params, x))
        found, _ = eye.network.apply(params, statistics, x)
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), found)

    def apply(
        params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False
    ) -> tuple[dict[str, Features], PyTree]:
        keys: list[Any] = list(jax.random.split(key, len(names))) if train and key is not None else [None] * len(names)
        rows, axes = {}, x[names[0]].shape[: x[names[0]].ndim - len(observation[names[0]].shape)]
        for name, own in zip(names, keys, strict=True):
            spec = observation[name].shape
            picture = _seen(config, x[name].reshape(-1, steps, *spec[-3:]), own)
            rows[name] = picture.reshape(-1, *picture.shape[2:])
        found: dict[str, Features] = {}
        for group in groups:  # in one go
            owner, many = whose[group[0]], jnp.concatenate([rows[name] for name in group])
            features = look(params["backbone"][owner], statistics.get("backbone", {}).get(owner, {}), many)
            count = (len(group), *axes, steps)
            parts = [leaf.reshape(*count, *leaf.shape[1:]) for leaf in features]
            of_each = {name: Features(*(part[i] for part in parts)) for i, name in enumerate(group)}
            found |= {name.removeprefix("image/"): _there(x, name, observation[name].shape, of) for name, of in of_each.items()}
        return {name: found[name] for name in grids}, statistics

    return Cameras(StatefulNetwork(init, apply), grids, eye.tokens, eye.size, steps)
