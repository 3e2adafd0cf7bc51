import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops.bins import Bins
from jaxrl.tokenizers.uniform import uniform

X = np.random.default_rng(0).uniform(-1.2, 1.2, (50, 4, 2))


@pytest.mark.parametrize("convention", ["uniform", "openvla", "rt1"])
def test_what_comes_back_is_within_the_error_and_what_was_clipped_is_counted(convention):
    tokenizer = uniform(Bins((-1.0, -0.5), (1.0, 1.0), 32, convention))
    tokens, clipped = tokenizer.encode(X)
    low, high = np.array([-1.0, -0.5]), np.array([1.0, 1.0])
    assert clipped == ((low > X) | (high < X)).sum() > 0
    assert tokens.shape == X.shape and tokens.min() == 0 and tokens.max() == tokenizer.size - 1 == 31
    assert (np.abs(tokenizer.decode(tokens) - X.clip(low, high)) <= tokenizer.error * 1.0001).all()


def test_on_the_device_as_on_the_host():
    tokenizer = uniform(Bins())
    tokens, clipped = tokenizer.encode(X.astype(np.float32))
    on_device, counted = jax.jit(tokenizer.encode)(jnp.asarray(X, jnp.float32))
    np.testing.assert_array_equal(on_device, tokens)
    assert counted == clipped
    np.testing.assert_allclose(jax.jit(tokenizer.decode)(on_device), tokenizer.decode(tokens), atol=1e-6)


def test_what_is_no_token_is_refused_or_not_a_number():
    tokenizer = uniform(Bins(number=8))
    with pytest.raises(ValueError, match="2 of 3 tokens are none of 0 to 7, the first is 8"):
        tokenizer.decode(np.array([0, 8, -1]))
    np.testing.assert_array_equal(np.isnan(tokenizer.decode(jnp.array([0, 8, -1]))), [False, True, True])
