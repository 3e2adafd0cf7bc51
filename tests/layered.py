"""A small transformer in an objective, whose kernels are stacked by layers: what is fine-tuned, sharded and planned in tests."""

import jax
import jax.numpy as jnp

from jaxrl.networks.transformer.experts import Computing, experts
from jaxrl.networks.transformer.layer import Size
from jaxrl.ops import running_statistics
from jaxrl.types import ArraySpec, Objective, PolicySpec

TOKENS = 6
SPEC = PolicySpec({"state/x": ArraySpec((TOKENS,))}, ArraySpec((2,)), horizon=TOKENS)
NORMALISER = running_statistics.init({"state/x": SPEC.observation["state/x"], "action": SPEC.action})
SIZE = Size(width=16, depth=2, heads=4, kv_heads=2, head_dim=8, mlp=24, activation="silu", centred=True, epsilon=1e-6, longest=1e4)
KEY = jax.random.key(0)


def layered(size: Size = SIZE, computing: Computing | None = None) -> Objective:
    """Each number that is seen is a token, and the token says one action. Elements count where the batch's mask does."""
    body = experts({"text": size}, computing or Computing("float32"))

    def init(key):
        first, of_body, last = jax.random.split(key, 3)
        return {
            "input": {"kernel": jax.random.normal(first, (1, size.width)), "bias": jnp.zeros(size.width)},
            "text": body.init(of_body)["text"],
            "output": {"kernel": 0.3 * jax.random.normal(last, (size.width, 2)), "bias": jnp.zeros(2)},
        }, {}

    def apply(params, x):
        tokens = x[..., None] @ params["input"]["kernel"] + params["input"]["bias"][None, None]
        batch, length = x.shape
        mask, places = jnp.ones((batch, length, length), bool), jnp.broadcast_to(jnp.arange(length), (batch, length))
        tokens = body.apply({"text": params["text"]}, {"text": tokens}, mask, places)["text"].astype(jnp.float32)
        return tokens @ params["output"]["kernel"] + params["output"]["bias"][None, None]

    def loss(params, statistics, batch, key):
        chunk = apply(params, batch["observation"]["state/x"])
        return jnp.square(chunk - batch["action"]), batch["mask"], statistics, {"size": jnp.abs(chunk).mean()}

    def sample(params, statistics, observation, key, context=None):
        return apply(params, observation["state/x"])

    spec = {"observation/state/x": ArraySpec(("batch", TOKENS))} | {name: ArraySpec(("batch", TOKENS, 2)) for name in ("action", "mask")}
    return Objective(init, loss, sample, SPEC, spec)


def make_batch(key=KEY, size: int = 16):
    """Rows that do not count alike."""
    x = jax.random.normal(key, (size, TOKENS))
    mask = (jnp.arange(TOKENS)[None] <= (5 * jnp.arange(size) % TOKENS)[:, None]).astype(jnp.float32)
    action = jnp.stack([jnp.sin(x), x[:, ::-1]], -1)
    return {"observation": {"state/x": x}, "action": action, "mask": jnp.broadcast_to(mask[..., None], action.shape)}
