"""Running mean and variance against numpy over everything seen."""

import jax.numpy as jnp
import numpy as np

from jaxrl.ops import running_statistics
from jaxrl.types import ArraySpec

SPEC = {"state/x": ArraySpec((3,)), "image/front": ArraySpec((4, 4, 3), "uint8")}


def test_batches_merge_into_the_statistics_of_all_data():
    rng = np.random.default_rng(0)
    batches = [rng.normal(5, 3, size=(n, 2, 3)).astype(np.float32) for n in (1, 7, 30)]
    statistics = running_statistics.init(SPEC)
    for batch in batches:
        statistics = running_statistics.update(statistics, {"state/x": jnp.asarray(batch)})
    everything = np.concatenate([b.reshape(-1, 3) for b in batches])
    assert float(statistics.total) == len(everything)
    np.testing.assert_allclose(statistics.mean["state/x"], everything.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.variance["state/x"], everything.var(0), rtol=1e-4)


def test_normalise_leaves_images_alone_and_clips():
    statistics = running_statistics.init(SPEC)
    image = jnp.zeros((2, 4, 4, 3), jnp.uint8)
    out = running_statistics.normalise(statistics, {"state/x": jnp.full((2, 3), 50.0), "image/front": image})
    assert out["image/front"].dtype == jnp.uint8
    np.testing.assert_array_equal(out["state/x"], 10.0)


def test_denormalise_undoes_normalise_without_a_clip():
    rng = np.random.default_rng(0)
    statistics = running_statistics.update(running_statistics.init(SPEC), {"state/x": jnp.asarray(rng.normal(5, 3, (50, 3)), jnp.float32)})
    x = {"state/x": jnp.full((2, 4, 3), 500.0), "other": jnp.ones(2)}
    normal = running_statistics.normalise(statistics, x, clip=None)
    mean, variance = (np.asarray(s["state/x"]) for s in (statistics.mean, statistics.variance))
    np.testing.assert_allclose(normal["state/x"], np.broadcast_to((500 - mean) / np.sqrt(variance), (2, 4, 3)), rtol=1e-5)
    back = running_statistics.denormalise(statistics, normal)
    np.testing.assert_allclose(back["state/x"], x["state/x"], rtol=1e-6)
    assert back["other"] is x["other"] and (running_statistics.normalise(statistics, x)["state/x"] == 10).all()
