"""Small denoisers, and what an objective that samples chunks must learn with one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrl.algorithms import supervised
from jaxrl.networks.interface import Denoiser
from jaxrl.networks.mlp import mlp
from jaxrl.ops import running_statistics
from jaxrl.types import Array, ArraySpec, Objective, PolicySpec

LINES = PolicySpec({"state/x": ArraySpec((1,))}, ArraySpec((1,)), horizon=4)


def telling(answer: Callable[[Array, Array], Array]) -> Denoiser:
    """A network with one parameter, which is 1, and `answer(noisy, time)`."""
    init = lambda key: ({"scale": jnp.ones(())}, {})  # noqa: E731
    encode = lambda params, statistics, x, key=None, train=False: (x["state/arm"].mean((1, 2)), statistics)  # noqa: E731
    return Denoiser(init, encode, lambda params, noisy, time, condition, key=None, train=False: params["scale"] * answer(noisy, time))


def small() -> Denoiser:
    """An MLP for LINES."""
    network = mlp(4 + 1 + 5, (64, 64), 4, "swish", 1.0)

    def denoise(params, noisy, time, condition, key=None, train=False):
        waves = jnp.concatenate([jnp.sin(3.0 * time)[:, None], jnp.cos(3.0 * time)[:, None], jnp.sqrt(time + 1e-3)[:, None]], -1)
        x = jnp.concatenate([noisy[..., 0], condition, waves, time[:, None]], -1)
        return network.apply(params["mlp"], jnp.concatenate([x, condition * time[:, None]], -1))[..., None]

    return Denoiser(
        lambda key: ({"mlp": network.init(key)}, {}), lambda p, statistics, x, key=None, train=False: (x["state/x"], statistics), denoise
    )


def learns(objective: Objective, updates: int) -> tuple[Array, Array]:
    """Losses, and mean error of chunks to demonstrated ones of 30 +- 10, where each number is a line of what is seen."""
    x = jax.random.uniform(jax.random.key(0), (128, 1), minval=-1.0, maxval=1.0)
    action = 30.0 + 10.0 * x[:, None] * jnp.array([1.0, -1.0, 0.5, 0.0]).reshape(1, 4, 1)
    stored = running_statistics.init(LINES.observation | {"action": LINES.action})
    stored = stored._replace(mean=stored.mean | {"action": jnp.full(1, 30.0)}, variance=stored.variance | {"action": jnp.full(1, 20.0)})
    config = supervised.Config(supervised.optimizers.Config(learning_rate=3e-3), ema_decay=0.9)
    algorithm = supervised.supervised(config, {"own": objective}, {"own": 1.0}, stored)
    batch = {"observation": {"state/x": x}, "action": action, "mask": jnp.ones((128, 4, 1))}

    @jax.jit
    def train(key):
        step = lambda state, key: algorithm.update(state, batch, key)[:2]  # noqa: E731
        state, metrics = jax.lax.scan(step, algorithm.init(key), jax.random.split(key, updates))
        chunk, _, _ = algorithm.policy.act(algorithm.deployable(state), batch["observation"], (), jax.random.split(key, 128))
        return metrics["loss"], jnp.abs(chunk - action).mean()

    return train(jax.random.key(3))
