"""What a policy sees and is told, as tokens of a PaliGemma: patches of each camera, then the instruction."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.networks.transformer.interface import Cache, SeeingModel
from jaxrl.networks.transformer.masks import block_mask, places
from jaxrl.types import INSTRUCTION, Array, ArraySpec, Observation, Params, Spec


class Layout(NamedTuple):
    """Of an observation of one step."""

    cameras: tuple[str, ...]  # "image/<camera>" in the order that the model sees them in
    states: tuple[str, ...]  # "state/<group>"
    names: tuple[str, ...]  # of the numbers of all states
    prompt: int  # tokens of an instruction, padding included


class Behind(NamedTuple):
    """What tokens behind a prefix see: all of it that counts, and of each other what `mask` says."""

    cache: Cache  # of the P tokens of the prefix
    mask: Array  # bool [B, T, P + T]
    places: Array  # [B, T]


def _of_one_step(who: str, name: str, part: ArraySpec, rank: int) -> tuple[int, ...]:
    """The shape without a history of one step."""
    shape = tuple(map(int, part.shape))
    if len(shape) == rank + 1 and shape[0] == 1:
        return shape[1:]
    if len(shape) == rank + 1:
        raise ValueError(f"{who} sees one step, but {name} is a history of {shape[0]}; set the source's history to 1")
    return shape


def layout(observation: Spec, cameras: tuple[str, ...], most: int, who: str) -> Layout:
    """`cameras` names those to see, without "image/", in their order; none named are all, sorted. `most` numbers of states fit.

    Raises:
        ValueError: there is no picture, instruction or camera of a name, an array is of another kind, or there is too much of it.
    """
    offered = sorted(name for name in observation if name.startswith("image/"))
    chosen = tuple(f"image/{name}" for name in cameras) or tuple(offered)
    if missing := [name for name in chosen if name not in observation]:
        raise ValueError(f"{who}: there is no camera {missing[0]!r}; offered are {', '.join(offered) or 'none'}")
    if not chosen:
        raise ValueError(f"{who} needs at least one image/<camera> observation; offered are {', '.join(sorted(observation))}")
    for name in chosen:
        shape, dtype = _of_one_step(who, name, observation[name], 3), observation[name].dtype
        if len(shape) != 3 or shape[-1] != 3 or dtype != "uint8":
            raise ValueError(f"{who} takes pictures [height, width, 3] of uint8, but {name} has the shape {shape} of {dtype}")
    if (
        INSTRUCTION not in observation
        or observation[INSTRUCTION].dtype != "int32"
        or len(_of_one_step(who, INSTRUCTION, observation[INSTRUCTION], 1)) != 1
    ):
        told = (
            f"of the shape {observation[INSTRUCTION].shape} and of {observation[INSTRUCTION].dtype}"
            if INSTRUCTION in observation
            else "not there"
        )
        raise ValueError(f"{who} is told what to do by {INSTRUCTION}, int32 [length], -1 where there is no token; it is {told}")
    names: list[str] = []
    states = tuple(sorted(name for name in observation if name.startswith("state/")))
    for name in states:
        shape = _of_one_step(who, name, observation[name], 1)
        if len(shape) != 1 or not observation[name].dtype.startswith("float"):
            raise ValueError(f"{who} takes states [size] of floats, but {name} has the shape {shape} of {observation[name].dtype}")
        names += observation[name].names or tuple(f"{name}/{i}" for i in range(shape[0]))
    if len(names) > most:
        raise ValueError(f"{who} has room for {most} numbers of states, but {', '.join(states)} have {len(names)}; leave some out")
    return Layout(chosen, states, tuple(names), int(observation[INSTRUCTION].shape[-1]))


def state(seen: Layout, x: Observation) -> Array:
    """[B, number of numbers], as they are normalised."""
    rows = x[INSTRUCTION].shape[0]
    return jnp.concatenate([jnp.zeros((rows, 0)), *(x[name].reshape(rows, -1) for name in seen.states)], -1)


def padded(x: Array, size: int) -> Array:
    """[..., n] as [..., size], with 0 in what is more."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])


def letterboxed(x: Array, size: int) -> Array:
    """Pictures float [B, height, width, 3] in [-1, 1] as [B, size, size, 3]: as large as they fit in, in the middle of black."""
    height, width = x.shape[1:3]
    if (height, width) == (size, size):
        return x
    ratio = max(height, width) / size
    inner = max(int(height / ratio), 1), max(int(width / ratio), 1)
    x = jnp.clip(jax.image.resize(x, (len(x), *inner, 3), "linear"), -1.0, 1.0)
    sides = [((size - length) // 2, size - length - (size - length) // 2) for length in inner]
    return jnp.pad(x, ((0, 0), *sides, (0, 0)), constant_values=-1.0)


def words(x: Observation) -> Array:
    """Of an instruction, int32 [B, length]; below 0 there is no token."""
    return x[INSTRUCTION].reshape(x[INSTRUCTION].shape[0], -1)


def tokens(seeing: SeeingModel, image: int, params: Params, seen: Layout, x: Observation, text: Array) -> tuple[Array, Array]:
    """[B, P, width], and which of them count [B, P], of pictures and of a `text` [B, L], -1 where there is no token.

    A camera that is not there, `present/image/<camera>` 0, is as if it had never been.
    """
    rows = len(text)
    pictures = jnp.stack([letterboxed(x[name].reshape(rows, *x[name].shape[-3:]) / 127.5 - 1.0, image) for name in seen.cameras], 1)
    patches = seeing.see(params, pictures.reshape(-1, *pictures.shape[2:]))  # rows first, which so stay on their devices
    there = [x.get(f"present/{name}", jnp.ones(rows)).reshape(rows, -1)[:, -1] > 0 for name in seen.cameras]
    counts = jnp.repeat(jnp.stack(there, 1), patches.shape[1], 1)
    embedded = seeing.text.embed(params["text"], jnp.maximum(text, 0))
    return jnp.concatenate([patches.reshape(rows, -1, patches.shape[-1]), embedded], 1), jnp.concatenate([counts, text >= 0], 1)


def blocks(valid: Array, sizes: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
    """Of a prefix, `valid` [B, P], that sees itself whole, and blocks of tokens behind it that all count, each of which sees what is before
    it and itself: mask and places of all tokens but those of the last block, then mask and places of these.
    """
    starts = jnp.concatenate([jnp.zeros(valid.shape[1], bool), *(jnp.arange(size) == 0 for size in sizes)])
    valid = jnp.concatenate([valid, jnp.ones((len(valid), sum(sizes)), bool)], 1)
    mask, where, first = block_mask(valid, jnp.broadcast_to(starts[None], valid.shape)), places(valid), valid.shape[1] - sizes[-1]
    return mask[:, :first, :first], where[:, :first], mask[:, first:], where[:, first:]


def whole(valid: Array) -> tuple[Array, Array]:
    """Mask and places of a prefix, `valid` [B, P], that sees itself whole."""
    return block_mask(valid, jnp.zeros(valid.shape, bool)), places(valid)
