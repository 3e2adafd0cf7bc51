"""The loss of what has been learnt on data that it did not learn from."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.algorithms.supervised import Behaviour
from jaxrl.types import Algorithm, Key, Metrics, Source


def loss_on(algorithm: Algorithm, learnt: Behaviour, source: Source, batches: int, seed: int = 0) -> dict[str, float]:
    """Means over `batches` of a source of each loss that an update tells of, as training works it out, dropout too; nothing is learnt.

    `algorithm` is `supervised`, and `learnt` what it deploys.
    """
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(algorithm.init, jax.random.key(0)))
    state = zeros._replace(params=learnt.params, frozen=learnt.frozen, statistics=learnt.statistics)

    @jax.jit  # which leaves out all that the losses do not need: gradients, moments
    def losses(state: Any, batch: Any, key: Key) -> Metrics:
        _, metrics, _ = algorithm.update(state, batch, key)
        return {name: value for name, value in metrics.items() if name.partition("/")[0] == "loss"}

    keys = jax.random.split(jax.random.key(seed), 2 * batches + 1)
    found, drawn = [], source.init(keys[-1], learnt)
    advance = jax.jit(source.next) if source.pure else source.next
    try:
        for number in range(batches):
            drawn, batch = advance(drawn, learnt, keys[2 * number])
            found.append(losses(state, batch, keys[2 * number + 1]))
    finally:
        source.close()
    return {name: float(jnp.stack([one[name] for one in found]).mean()) for name in found[0]}
