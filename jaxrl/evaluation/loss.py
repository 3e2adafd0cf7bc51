"""The loss of what has been learnt on data that it did not learn from."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.algorithms.supervised import Behaviour
from jaxrl.types import Algorithm, Key, Metrics, Source


def loss_on(algorithm: Algorithm, learnt: Behaviour, source: Source, batches: int, seed: int = 0) -> dict[str, float]:
    """Means over `batches` of a source of each loss that an update tells of, as training works it out, dropout too; nothing is learnt.

    `algorithm` is `supervised`, and `learnt` what it deploys.
    """
    return losing(algorithm, source, batches, seed)(learnt)


def losing(algorithm: Algorithm, source: Source, batches: int, seed: int = 0) -> Callable[[Behaviour], dict[str, float]]:
    """`loss_on` for what has been learnt at one time after another, compiled once; the batches are the same."""
    shapes = jax.eval_shape(algorithm.init, jax.random.key(0))

    @jax.jit  # which leaves out all that the losses do not need: gradients, moments
    def losses(learnt: Behaviour, batch: Any, key: Key) -> Metrics:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        state = zeros._replace(params=learnt.params, frozen=learnt.frozen, statistics=learnt.statistics)
        _, metrics, _ = algorithm.update(state, batch, key)
        return {name: value for name, value in metrics.items() if name.partition("/")[0] == "loss"}

    keys = jax.random.split(jax.random.key(seed), 2 * batches + 1)
    advance = jax.jit(source.next) if source.pure else source.next

    def means(learnt: Behaviour) -> dict[str, float]:
        found, drawn = [], source.init(keys[-1], learnt)
        for number in range(batches):
            drawn, batch = advance(drawn, learnt, keys[2 * number])
            found.append(losses(learnt, batch, keys[2 * number + 1]))
        return {name: float(jnp.stack([one[name] for one in found]).mean()) for name in found[0]}

    return means
