import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algorithms import supervised
from jaxrl.networks.interface import TokenDecoder
from jaxrl.objectives import text
from jaxrl.ops import running_statistics
from jaxrl.types import ArraySpec, PolicySpec

SPEC = PolicySpec({"state/a": ArraySpec((1,))}, ArraySpec((2,)), horizon=4)
KEY = jax.random.key(0)


def telling(logits) -> TokenDecoder:
    """Says `logits` [B, L, V]."""
    encode = lambda params, statistics, observation, key=None, train=False: (observation["state/a"], statistics)  # noqa: E731
    say = lambda params, written, condition, key=None, train=False: params["scale"] * logits  # noqa: E731
    none = lambda *_: (jnp.zeros(()), ())  # noqa: E731
    return TokenDecoder(lambda key: ({"scale": jnp.ones(())}, {}), encode, say, none, none)


def test_an_answer_is_learnt_token_by_token():
    draws = np.random.default_rng(0)
    logits, answer = draws.normal(size=(3, 4, 7)), np.array([[1, 2, 6, -1], [0, -1, -1, -1], [-1, -1, -1, -1]])
    objective = text.text(text.Config(4, 7), SPEC, telling(jnp.asarray(logits, jnp.float32)))
    assert objective.batch_spec["text/answer"] == ArraySpec(("batch", 4), "int32") and "action" not in objective.batch_spec
    batch = {"observation": {"state/a": jnp.zeros((3, 1))}, "text": {"answer": jnp.asarray(answer)}}
    elements, counts, _, metrics = jax.jit(objective.loss)(*objective.init(KEY), batch, KEY)
    np.testing.assert_array_equal(counts, answer >= 0)
    likely = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    there = answer >= 0
    np.testing.assert_allclose(np.asarray(elements)[there], -np.take_along_axis(likely, answer[..., None], -1)[..., 0][there], rtol=1e-5)
    np.testing.assert_allclose(metrics["right"], (logits.argmax(-1) == answer)[there].mean(), rtol=1e-6)


def test_what_only_teaches_does_not_act():
    objective = text.text(text.Config(4, 7), SPEC, telling(jnp.zeros((3, 4, 7))))
    with pytest.raises(ValueError, match="policy is 'answers', which only teaches and has no actions"):
        supervised.supervised(supervised.Config(), {"answers": objective}, {"answers": 1.0}, running_statistics.init(SPEC.observation))
    with pytest.raises(ValueError, match="length is 0"):
        text.Config(length=0)
