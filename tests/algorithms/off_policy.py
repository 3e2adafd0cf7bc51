"""What the tests of off-policy methods share: a spec, a batch, small networks, and critics in numpy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.networks._torsos import Torso
from jaxrl.networks.actor_q import ActorQ, Config, actor_q
from jaxrl.networks.pixel_actor_q import Config as PixelConfig
from jaxrl.networks.pixel_actor_q import PixelActorQ, pixel_actor_q
from jaxrl.types import ArraySpec, EnvSpec, Replayed

GAMMA = 0.9
SPEC = EnvSpec("task", {"state/a": ArraySpec((3,)), "privileged/b": ArraySpec((1,))}, ArraySpec((2,), low=-2.0, high=2.0), 100, 0.02)
EYE = EnvSpec(
    "eye", {"image/eye": ArraySpec((9, 9, 1), "uint8"), "state/a": ArraySpec((2,))}, ArraySpec((1,), low=-1.0, high=1.0), 100, 0.02
)
UPDATES, BATCH, STEPS = 2, 8, 3


def networks(**changes: Any) -> ActorQ:
    small = Torso("mlp", 8, 1)
    return actor_q(Config(**{"actor": small, "critic": small, "ensemble": 3, "actor_scale": 1.0} | changes), SPEC)


def pixel_networks(**changes: Any) -> PixelActorQ:
    """Of `EYE`."""
    small = Torso(width=8, depth=1)
    return pixel_actor_q(PixelConfig(((4, 3, 2),), 6, Config(**{"actor": small, "critic": small} | changes)), EYE)


def pictures(key: jax.Array, updates: int = 1) -> Replayed:
    """Steps of `EYE`, none of which terminated."""
    shape = (updates, BATCH)

    def observation(key: jax.Array) -> dict[str, jax.Array]:
        image = jax.random.randint(key, (*shape, 9, 9, 1), 0, 256).astype(jnp.uint8)
        return {"image/eye": image, "state/a": jax.random.normal(key, (*shape, 2))}

    keys = jax.random.split(key, 4)
    steps = jnp.full(shape, STEPS, jnp.int32)
    reward, action = jax.random.normal(keys[0], (*shape, STEPS)), jax.random.uniform(keys[1], (*shape, 1), minval=-1.0, maxval=1.0)
    return Replayed(observation(keys[2]), action, reward, steps, jnp.ones(shape), observation(keys[3]), jnp.ones(shape), {})


def batch(key: jax.Array, updates: int = UPDATES) -> Replayed:
    """Steps of which some terminated and some have been followed for fewer than `STEPS`."""
    keys = jax.random.split(key, 6)
    shape = (updates, BATCH)

    def observation(key: jax.Array) -> dict[str, jax.Array]:
        return {"state/a": jax.random.normal(key, (*shape, 3)), "privileged/b": jax.random.normal(jax.random.fold_in(key, 1), (*shape, 1))}

    steps = jax.random.randint(keys[3], shape, 1, STEPS + 1)
    within = jnp.arange(STEPS)[None, None] < steps[..., None]
    return Replayed(
        observation=observation(keys[0]),
        action=jax.random.uniform(keys[1], (*shape, 2), minval=-2.0, maxval=2.0),
        reward=jnp.where(within, jax.random.normal(keys[2], (*shape, STEPS)), 0.0),
        steps=steps,
        discount=jax.random.bernoulli(keys[4], 0.7, shape).astype(jnp.float32),
        next_observation=observation(keys[5]),
        weight=jax.random.uniform(keys[2], shape),
        extras={},
    )


def dense(params: Any, x: np.ndarray) -> np.ndarray:
    """The network of `networks` with one hidden layer of relu, in numpy."""
    hidden, output = params["torso"]["hidden_0"], params["output"]
    return np.maximum(x @ np.asarray(hidden["kernel"]) + np.asarray(hidden["bias"]), 0) @ np.asarray(output["kernel"]) + np.asarray(
        output["bias"]
    )


def critics(params: Any, observation: Any, action: np.ndarray) -> np.ndarray:
    """[E, B]"""
    x = np.concatenate([observation["state/a"], observation["privileged/b"], action], -1)
    return np.stack([dense(jax.tree.map(lambda leaf, e=e: leaf[e], params), x)[..., 0] for e in range(3)])


def first(tree: Any) -> Any:
    """Of the first update."""
    return jax.tree.map(lambda x: np.asarray(x[0]), tree)


def returns(now: Replayed) -> np.ndarray:
    """[B] the discounted rewards of each step's n."""
    return sum(now.reward[:, k] * GAMMA**k for k in range(STEPS))
