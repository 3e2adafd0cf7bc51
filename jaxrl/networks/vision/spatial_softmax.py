"""Where in a picture features are found (Finn et al. 2016, https://arxiv.org/abs/1509.06113, section IV)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np


class SpatialSoftmax(nn.Module):
    """A map [B, rows, columns, C], brought to `keypoints` channels, to the mean place of each, [B, keypoints, 2].

    Places are x and then y, from -1 at the left and the top to 1, weighed by the softmax of the channel over the map.
    """

    keypoints: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        rows, columns = x.shape[1:3]
        heat = nn.Dense(self.keypoints, name="keypoints")(x).reshape(x.shape[0], rows * columns, self.keypoints)
        place = np.meshgrid(np.linspace(-1.0, 1.0, columns), np.linspace(-1.0, 1.0, rows))
        places = jnp.asarray(np.stack(place, -1).reshape(-1, 2), jnp.float32)
        return jnp.einsum("bnk,nd->bkd", nn.softmax(heat, 1), places)
