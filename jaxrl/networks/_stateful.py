"""Torsos with an output layer as networks that keep statistics, one or several at once."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks._torsos import TORSOS, Torso
from jaxrl.types import Key, Params, PyTree, StatefulNetwork


class _Headed(nn.Module):
    torso: Torso
    output_size: int
    final_scale: float

    @nn.compact
    def __call__(self, x: Any, train: bool, drop: bool) -> Any:
        x = TORSOS[self.torso.kind].module(self.torso, name="torso")(x, train, drop)
        final = nn.initializers.orthogonal(self.final_scale) if self.final_scale else nn.initializers.zeros
        return nn.Dense(self.output_size, kernel_init=final, name="output")(x)


def headed(torso: Torso, input_size: int, output_size: int, final_scale: float) -> StatefulNetwork:
    """[..., input_size] to [..., output_size]; `final_scale` is that of the last kernel, 0 for outputs that begin at 0."""
    module = _Headed(torso, output_size, final_scale)
    project = TORSOS[torso.kind].project

    def init(key: Key) -> tuple[Params, PyTree]:
        variables = module.init(key, jnp.zeros((2, input_size)), train=True, drop=False)
        return project(variables["params"]), dict(variables.get("batch_stats", {}))

    def apply(params: Params, statistics: PyTree, x: Any, key: Key | None = None, train: bool = False) -> tuple[Any, PyTree]:
        variables = {"params": params} | ({"batch_stats": statistics} if statistics else {})
        rngs = None if key is None else {"dropout": key}
        drop = key is not None
        if not (train and statistics):
            output: Any = module.apply(variables, x, rngs=rngs, train=train, drop=drop)
            return output, statistics
        output, updated = module.apply(variables, x, rngs=rngs, mutable=["batch_stats"], train=train, drop=drop)
        return output, updated["batch_stats"]

    return StatefulNetwork(init, apply, project)


def several(network: StatefulNetwork, number: int) -> StatefulNetwork:
    """`number` networks alike with parameters and statistics of their own, [number, ...]; outputs are [number, ..., output_size]."""

    def init(key: Key) -> tuple[Params, PyTree]:
        return jax.vmap(network.init)(jax.random.split(key, number))

    def apply(params: Params, statistics: PyTree, x: Any, key: Key | None = None, train: bool = False) -> tuple[Any, PyTree]:
        keys = None if key is None else jax.random.split(key, number)
        one = lambda p, s, k: network.apply(p, s, x, k, train)  # noqa: E731
        return jax.vmap(one, (0, 0, None if keys is None else 0))(params, statistics, keys)

    return StatefulNetwork(init, apply, network.project)
