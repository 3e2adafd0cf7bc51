"""Batches in which every other step is seen in a mirror, for tasks with a plane of symmetry, such as those of robots on legs."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Array, Key, Mirror, Observation, Params, PyTree, Reflection, Replayed, Source


def reflected(reflection: Reflection, x: Array) -> Array:
    """The mirror images of vectors [..., D]."""
    return x[..., np.array(reflection.source)] * np.array(reflection.sign, np.float32).reshape(*(1,) * (x.ndim - 1), -1)


def mirrored(source: Source, mirror: Mirror) -> Source:
    """`source` of `Replayed` steps, each of which is replaced by its mirror image with a chance of one half.

    Data augmentation as in Mittal et al. 2024 (https://arxiv.org/abs/2403.04359), but for the size of the batch, which stays.

    Raises:
        ValueError: the source does not replay, or yields an observation that `mirror` does not know.
    """
    if "steps" not in source.spec:
        raise ValueError("mirrored: the source does not replay; only steps that are learnt from out of a memory have mirror images")
    prefix = "observation/"
    groups = [name.removeprefix(prefix) for name in source.spec if name.startswith(prefix)]
    for name in groups:
        if name not in mirror.observation:
            raise ValueError(f"the mirror image of {name} is not known; {suggestion(name, list(mirror.observation))}")

    def choose(flip: Array, reflection: Reflection, x: Array) -> Array:
        return jnp.where(flip[..., None], reflected(reflection, x), x)

    def observed(flip: Array, observation: Observation) -> Observation:
        return {name: choose(flip, mirror.observation[name], x) for name, x in observation.items()}

    def advance(state: PyTree, behaviour: Params, key: Key) -> tuple[PyTree, Replayed]:
        own, toss = jax.random.split(key)
        state, batch = source.next(state, behaviour, own)
        flip = jax.random.bernoulli(toss, 0.5, batch.discount.shape)
        return state, batch._replace(
            observation=observed(flip, batch.observation),
            action=choose(flip, mirror.action, batch.action),
            next_observation=observed(flip, batch.next_observation),
        )

    return source._replace(next=advance)
