"""Against what LeRobot did (tests/golden/residual_vq.py), and loops in numpy."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.tokenizers import residual_vq as rvq
from jaxrl.tokenizers.residual_vq import Codebooks, Config

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "residual_vq.json").read_text())
CONFIG = Config(GOLDEN["quantizers"], GOLDEN["codes"], GOLDEN["size"])
quantise, update, vectors = jax.jit(rvq.quantise), jax.jit(rvq.update, static_argnums=0), jax.jit(rvq.vectors)


def floats(x):
    return jnp.asarray(x, jnp.float32)


@jax.jit
@jax.grad
def slope(x, codebooks, along):
    found = rvq.quantise(codebooks, x)
    return (found.vector * along).sum() + GOLDEN["commitment"] * found.commitment.mean(0).sum()


def test_steps_of_lerobot():
    codebooks = Codebooks(floats(GOLDEN["vectors"]), jnp.zeros((2, 5)), floats(GOLDEN["vectors"]))
    for step in GOLDEN["steps"]:
        x = floats(step["x"])
        found = quantise(codebooks, x)
        np.testing.assert_array_equal(found.codes, step["codes"])
        np.testing.assert_allclose(found.vector, step["vector"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.commitment.mean(0), step["losses"], rtol=1e-4)
        np.testing.assert_allclose(slope(x, codebooks, floats(step["slope"])), step["gradient"], rtol=1e-4, atol=1e-5)
        codebooks = update(CONFIG, codebooks, x, found.codes)
        for name in Codebooks._fields:
            np.testing.assert_allclose(getattr(codebooks, name), step[name], rtol=2e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(vectors(codebooks, jnp.asarray(GOLDEN["steps"][-1]["codes"])), GOLDEN["read"], rtol=1e-4, atol=1e-5)


def random(seed=0, rows=(3, 7), config=CONFIG):
    rng = np.random.default_rng(seed)
    books = rng.normal(size=(config.quantizers, config.codes, config.size)) * np.array([1.0, 0.3])[:, None, None]
    state = Codebooks(floats(books), floats(rng.uniform(0.5, 2, books.shape[:2])), floats(rng.normal(size=books.shape)))
    return state, rng.normal(size=(*rows, config.size)).astype(np.float32)


def test_codes_against_loops():
    codebooks, x = random()
    found = quantise(codebooks, jnp.asarray(x))
    for place in np.ndindex(3, 7):
        left = x[place].astype(float)
        for q in range(2):
            entries = np.asarray(codebooks.vectors[q], float)
            code = ((entries - left) ** 2).sum(-1).argmin()
            assert found.codes[place][q] == code
            np.testing.assert_allclose(found.commitment[place][q], ((entries[code] - left) ** 2).mean(), rtol=1e-4)
            left = left - entries[code]
        np.testing.assert_allclose(found.vector[place], x[place] - left, atol=1e-5)
    np.testing.assert_allclose(vectors(codebooks, found.codes), found.vector, atol=1e-5)
    coarse = vectors(codebooks, found.codes[..., :1])
    assert ((coarse - x) ** 2).sum() > ((found.vector - x) ** 2).sum()


def test_codebooks_get_no_gradient():
    codebooks, x = random()
    gradient = jax.jit(jax.grad(lambda books: sum(part.astype(jnp.float32).sum() for part in rvq.quantise(books, jnp.asarray(x)))))(
        codebooks
    )
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("garbage", [0.0, 1e30, np.nan])
def test_masked_vectors_do_not_count(garbage):
    codebooks, x = random()
    mask = np.random.default_rng(1).integers(0, 2, (3, 7)).astype(np.float32)
    codes = quantise(codebooks, jnp.asarray(x)).codes
    kept = mask.astype(bool)
    expected = update(CONFIG, codebooks, jnp.asarray(x[kept]), codes[kept])
    found = update(CONFIG, codebooks, jnp.where(mask[..., None] > 0, x, garbage), codes, jnp.asarray(mask))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_batch_without_vectors_leaves_new_codebooks_alone():
    codebooks = rvq.init(CONFIG, jax.random.key(0))
    after = update(CONFIG, codebooks, jnp.full((3, 4), jnp.nan), jnp.zeros((3, 2), jnp.int32), jnp.zeros(3))
    np.testing.assert_array_equal(after.vectors, codebooks.vectors)
    assert all(np.isfinite(leaf).all() for leaf in after)


def test_entries_begin_as_those_of_pytorch():
    config = Config(3, 16, 256)
    codebooks = rvq.init(config, jax.random.key(0))
    bound = np.sqrt(6 / (16 * 256))
    assert codebooks.vectors.shape == (3, 16, 256) and np.abs(codebooks.vectors).max() <= bound
    assert float(codebooks.vectors.std()) == pytest.approx(bound / np.sqrt(3), rel=0.02)
    assert not codebooks.uses.any() and (codebooks.total == codebooks.vectors).all()
    assert (codebooks.vectors[0] != codebooks.vectors[1]).any()


def test_codebooks_find_clusters_of_clusters():
    """Four far centres with two near ones around each are told by 4 x 2 codes."""
    rng = np.random.default_rng(0)
    far, near = np.array([[-2, -2], [-2, 2], [2, -2], [2, 2.0]]), np.array([[0.3, 0.0], [-0.3, 0.0]])
    data = floats((far[:, None] + near).reshape(-1, 2)[rng.integers(0, 8, 256)])
    config = Config(2, 4, 2)

    @jax.jit
    def learnt(key):
        def step(codebooks, _):
            return rvq.update(config, codebooks, data, rvq.quantise(codebooks, data).codes), None

        return jax.lax.scan(step, rvq.init(config, key), None, 300)[0]

    errors = [float(quantise(learnt(jax.random.key(seed)), data).commitment[:, 1].mean()) for seed in range(5)]
    assert max(errors) < 1e-3, "0.045 would be one code for both"


def test_a_code_that_is_none_is_not_a_number():
    codebooks, _ = random()
    assert np.isnan(vectors(codebooks, jnp.array([[0, 5]]))).all() and np.isfinite(vectors(codebooks, jnp.array([[0, 4]]))).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"codes": 0}, "codes is 0"),
        ({"decay": 1.0}, "decay is 1.0, but must be at least 0 and below 1"),
        ({"epsilon": 0.0}, "epsilon is 0.0"),
    ],
)
def test_impossible_numbers_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
