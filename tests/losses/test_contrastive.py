"""InfoNCE against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from jaxrl.losses import contrastive

info_nce = jax.jit(contrastive.info_nce)
SCORES = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32) * 4


def test_info_nce_against_scipy():
    np.testing.assert_allclose(info_nce(jnp.asarray(SCORES)), -special.log_softmax(SCORES.astype(float), -1)[:, 0], rtol=1e-5)


def test_info_nce_knows_no_order_of_negatives_and_no_offset():
    other = np.concatenate([SCORES[:, :1], SCORES[:, :0:-1]], 1) + 3.0
    np.testing.assert_allclose(info_nce(jnp.asarray(other)), info_nce(jnp.asarray(SCORES)), rtol=1e-4)
    np.testing.assert_allclose(info_nce(jnp.zeros((1, 8))), np.log(8), rtol=1e-6)
