"""Multi-layer perceptron."""

from typing import Any

import flax.linen as nn
import jax

from jaxrl.types import Array, Key, Network, Params

ACTIVATIONS = {"tanh": jax.numpy.tanh, "relu": nn.relu, "elu": nn.elu, "swish": nn.swish, "gelu": nn.gelu}


class _MLP(nn.Module):
    hidden: tuple[int, ...]
    output_size: int
    activation: str
    final_scale: float

    @nn.compact
    def __call__(self, x: Any) -> Any:
        activate = ACTIVATIONS[self.activation]
        for i, width in enumerate(self.hidden):
            x = activate(nn.Dense(width, kernel_init=nn.initializers.orthogonal(2**0.5), name=f"hidden_{i}")(x))
        return nn.Dense(self.output_size, kernel_init=nn.initializers.orthogonal(self.final_scale), name="output")(x)


def mlp(input_size: int, hidden: tuple[int, ...], output_size: int, activation: str = "tanh", final_scale: float = 1.0) -> Network:
    """Dense layers with `activation` between them and orthogonal kernels; `[..., input_size]` to `[..., output_size]`.

    Raises:
        ValueError: the activation has no such name.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation {activation!r} is unknown; there are {', '.join(ACTIVATIONS)}")
    module = _MLP(tuple(hidden), output_size, activation, final_scale)

    def init(key: Key) -> Params:
        return module.init(key, jax.numpy.zeros((1, input_size)))["params"]

    def apply(params: Params, x: Array, key: Key | None = None, train: bool = False) -> Array:
        del key, train
        output: Any = module.apply({"params": params}, x)
        return output

    return Network(init, apply)
