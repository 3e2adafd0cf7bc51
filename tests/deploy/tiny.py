"""A policy that counts how often it was asked, as small as can be."""

import jax.numpy as jnp
import numpy as np

from jaxrl.deploy.export import Meaning, export
from jaxrl.types import ArraySpec, Policy, PolicySpec

SPEC = PolicySpec(
    {"state/q": ArraySpec((3,), names=("x", "y", "z"), unit="m"), "image/wrist": ArraySpec((4, 4, 3), "uint8")},
    ArraySpec((2,), names=("a", "b"), unit="rad, m", low=(-1.0, -2.0), high=(1.0, 2.0)),
    horizon=4,
    executed_steps=2,
    rate=20.0,
)
PARAMS = {"kernel": np.arange(6, dtype=np.float32).reshape(3, 2) / 10, "bias": {"late": jnp.full(2, 0.5, jnp.bfloat16)}}
MEANING = Meaning("tiny", "joint_position_absolute")


def act(params, observation, carry, key, context=None):
    """Each step the same: q K + bias + the mean of the image + how often it was asked."""
    shade = observation["image/wrist"].astype(jnp.float32).mean((1, 2, 3))
    step = observation["state/q"] @ params["kernel"] + params["bias"]["late"].astype(jnp.float32)[None] + shade[:, None]
    step = step + carry["asked"][:, None].astype(jnp.float32)
    return jnp.repeat(step[:, None], 4, 1), {"asked": carry["asked"] + 1}, {}


POLICY = Policy(SPEC, lambda size: {"asked": jnp.zeros(size, jnp.int32)}, act)


def expected(seen, asked):
    """[4, 2] in numpy."""
    step = seen["state/q"] @ PARAMS["kernel"] + 0.5 + seen["image/wrist"].mean() + asked
    return np.repeat(step[None], 4, 0)


def seen(number=0):
    draws = np.random.default_rng(number)
    return {"state/q": draws.standard_normal(3).astype(np.float32), "image/wrist": draws.integers(0, 9, (4, 4, 3), np.uint8)}


def written(folder):
    return export(folder, POLICY, PARAMS, MEANING, told={"update": 7})
