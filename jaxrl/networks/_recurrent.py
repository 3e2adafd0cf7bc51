"""Networks with a memory between encoder and head, and those without one in the same form."""

import jax
import jax.numpy as jnp

from jaxrl.networks._cells import Cell
from jaxrl.networks._groups import concatenate
from jaxrl.ops.worlds import where_rows
from jaxrl.types import Array, Key, Network, Observation, Params, PyTree, RecurrentNetwork


def recurrent(encoder: Network, cell: Cell, head: Network, remembered: tuple[str, ...], beside: tuple[str, ...]) -> RecurrentNetwork:
    """`remembered` groups go through encoder and cell; the head takes what the cell holds, and the groups `beside` it as they are now."""

    def init(key: Key) -> Params:
        first, middle, last = jax.random.split(key, 3)
        return {"encoder": encoder.init(first), "cell": cell.init(middle), "head": head.init(last)}

    def encode(params: Params, x: Observation) -> Array:
        return encoder.apply(params["encoder"], concatenate(x, remembered))

    def remember(params: Params, x: Observation, carry: PyTree) -> PyTree:
        return cell.remember(params["cell"], encode(params, x), carry)

    def unroll(params: Params, x: Observation, carry: PyTree, begins: Array) -> PyTree:
        fresh = cell.carry(begins.shape[1])

        def step(carry: PyTree, now: tuple[Array, Array]) -> tuple[PyTree, PyTree]:
            features, begin = now
            carry = cell.remember(params["cell"], features, where_rows(begin, fresh, carry))
            return carry, carry

        return jax.lax.scan(step, carry, (encode(params, x), begins))[1]  # only the cell has to wait for the step before

    def apply(params: Params, x: Observation, carry: PyTree) -> Array:
        content = cell.content(carry)
        return head.apply(params["head"], jnp.concatenate([content, concatenate(x, beside)], -1) if beside else content)

    return RecurrentNetwork(init, cell.carry, remember, unroll, apply)


def as_recurrent(network: Network | RecurrentNetwork) -> RecurrentNetwork:
    """A network that may have no memory as one whose carry is (), which may stand for any."""
    if isinstance(network, RecurrentNetwork):
        return network

    def apply(params: Params, x: PyTree, carry: PyTree) -> PyTree:
        return network.apply(params, x)

    return RecurrentNetwork(network.init, lambda size: (), lambda params, x, carry: (), lambda params, x, carry, begins: (), apply)
