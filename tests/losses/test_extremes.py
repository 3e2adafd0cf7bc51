"""Every loss and its gradients are finite far out, and padding that its caller has replaced by zeros counts for nothing."""

import inspect
import itertools
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.losses import classification, contrastive, denoising, likelihood, regression

MODULES = (classification, contrastive, denoising, likelihood, regression)
FAR = jnp.array([0.0, 1e-30, -1e-30, 1.0, -1e8, 1e8])
LOGITS = jnp.array(list(itertools.product([0.0, -1e30, 1e30, 90.0], repeat=3)))
LOG_STD = jnp.array([-20.0, 20.0, 0.0])
LABEL = jnp.arange(len(LOGITS)) % 3
LEVEL = jnp.array([0.0, 1e-30, 1e-7, 0.5, 1.0 - 1e-7, 1.0])


def grid(*axes):
    """Every combination, one array for each axis."""
    return [jnp.asarray(x).reshape(-1) for x in np.meshgrid(*axes, indexing="ij")]


PAIR, GAUSSIAN = grid(FAR, FAR), grid(FAR, LOG_STD, FAR)
NOISY = grid(FAR, FAR, LEVEL)
KINDS = ("epsilon", "sample", "v")
COMPONENTS = [jnp.repeat(x.reshape(-1, 1, 1), 3, 1) for x in GAUSSIAN[:2]]
# Arguments that have a gradient, and the others.
CASES = {
    "squared_error": (regression.squared_error, PAIR),
    "absolute_error": (regression.absolute_error, PAIR),
    "huber_error": (lambda p, t: regression.huber_error(p, t, 1e-3), PAIR),
    "quantile_huber_error": (lambda p, t: regression.quantile_huber_error(p, t, 0.1, 1e-3), PAIR),
    "expectile_error": (lambda p, t: regression.expectile_error(p, t, 0.9), PAIR),
    "pseudo_huber_distance": (lambda p, t: regression.pseudo_huber_distance(p[:, None], t[:, None], jnp.ones((len(p), 1))), PAIR),
    "gaussian_nll": (likelihood.gaussian_nll, GAUSSIAN),
    "mixture_nll": (
        likelihood.mixture_nll,
        [jnp.tile(jnp.array([[0.0, -1e30, 9.0]]), (len(GAUSSIAN[0]), 1)), *COMPONENTS, GAUSSIAN[2][:, None]],
    ),
    "gaussian_kl": (likelihood.gaussian_kl, grid(FAR, LOG_STD, FAR, LOG_STD)),
    "gaussian_kl_to_standard": (likelihood.gaussian_kl_to_standard, grid(FAR, LOG_STD)),
    "negative_elbo": (lambda r, m, s: likelihood.negative_elbo(r, m[:, None], s[:, None]), grid(FAR, FAR, LOG_STD)),
    "cross_entropy": (lambda x: classification.cross_entropy(x, LABEL, 0.1), [LOGITS]),
    "soft_cross_entropy": (lambda x: classification.soft_cross_entropy(x, jax.nn.one_hot(LABEL, 3)), [LOGITS]),
    "focal": (lambda x: classification.focal(x, LABEL), [LOGITS]),
    "two_hot": (lambda x: classification.two_hot(x, jnp.linspace(-1.0, 1.0, 5)), [FAR]),
    "info_nce": (contrastive.info_nce, [LOGITS]),
    "diffused": (denoising.diffused, NOISY),
    "diffusion_target": (lambda *x: sum(denoising.diffusion_target(kind, *x) for kind in KINDS), NOISY),
    "converted": (lambda *x: sum(denoising.converted(*x, a, b) for a in KINDS for b in KINDS), NOISY),
    "interpolated": (denoising.interpolated, NOISY),
    "velocity": (denoising.velocity, PAIR),
    "flow_ends": (lambda *x: sum(denoising.flow_ends(*x)), NOISY),
}


def test_every_loss_is_here():
    def public(module: ModuleType) -> set[str]:
        found = inspect.getmembers(module, inspect.isfunction)
        return {name for name, function in found if function.__module__ == module.__name__ and not name.startswith("_")}

    assert set(CASES) == set().union(*map(public, MODULES))


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_finite_far_out(name):
    loss, arguments = CASES[name]

    @jax.jit
    def both(*arguments):
        value, pull = jax.vjp(loss, *arguments)
        return value, pull(jnp.ones_like(value))

    value, gradient = both(*arguments)
    assert value.shape[:1] == arguments[0].shape[:1]
    assert np.isfinite(value).all() and all(np.isfinite(leaf).all() for leaf in gradient)


@pytest.mark.parametrize("name", CASES)
def test_what_a_caller_replaces_by_zeros_counts_for_nothing(name):
    """The way of masks: zeros go in, and what comes out is dropped. Neither may bring NaN into the gradient of the rest."""
    loss, arguments = CASES[name]
    tame = [jnp.clip(x, -1.0, 1.0) for x in arguments]
    padded = jnp.arange(len(tame[0])) % 2 == 1

    @jax.jit
    def gradient(*given):
        def total(*given):
            def empty(x):
                return jnp.where(padded.reshape(-1, *(1,) * (x.ndim - 1)), 0.0, x)

            elements = loss(*map(empty, given))
            return jnp.where(padded.reshape(-1, *(1,) * (elements.ndim - 1)), 0.0, elements).sum()

        return jax.grad(total, argnums=tuple(range(len(given))))(*given)

    clean = gradient(*tame)
    dirty = gradient(*(jnp.where(padded.reshape(-1, *(1,) * (x.ndim - 1)), jnp.nan, x) for x in tame))
    for one, other in zip(clean, dirty, strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.isfinite(one).all() and not np.asarray(one)[np.asarray(padded)].any()
