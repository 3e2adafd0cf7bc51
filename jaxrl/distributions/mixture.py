"""Mixture of normal distributions with diagonal covariances, over vectors or over whole chunks (Bishop 1994; robomimic, Mandlekar et al.
2021, https://arxiv.org/abs/2108.03298).

Parameters are `logits` [..., K], `mean` and `log_std` [..., K, *event]; a draw is [..., *event].
"""

import jax
import jax.numpy as jnp

from jaxrl.distributions.distribution import Distribution
from jaxrl.losses.likelihood import gaussian_kl, mixture_nll
from jaxrl.types import Array, ArraySpec, Key, Params, Spec


def _event(parameters: Params) -> tuple[int, ...]:
    """The axes of one draw in `mean`."""
    return tuple(range(parameters["logits"].ndim, parameters["mean"].ndim))


def _of(component: Array, x: Array) -> Array:
    """[..., K, *event] of the components [...], [..., *event]."""
    axis = component.ndim
    which = component.reshape(*component.shape, *(1,) * (x.ndim - axis))
    return jnp.take_along_axis(x, which, axis).squeeze(axis)


def sample(parameters: Params, key: Key) -> Array:
    """[..., *event], one draw per row, of a component drawn by its weight."""
    which, noise = jax.random.split(key)
    component = jax.random.categorical(which, parameters["logits"])
    mean, log_std = _of(component, parameters["mean"]), _of(component, parameters["log_std"])
    return mean + jnp.exp(log_std) * jax.random.normal(noise, mean.shape, mean.dtype)


def log_prob(parameters: Params, x: Array) -> Array:
    """Of `x` [..., *event]. Returns [...]."""
    return -mixture_nll(parameters["logits"], parameters["mean"], parameters["log_std"], x)


def entropy(parameters: Params, key: Key) -> Array:
    """[...], estimated by one draw of each component, so that weights have a gradient too."""
    mean = parameters["mean"]
    x = mean + jnp.exp(parameters["log_std"]) * jax.random.normal(key, mean.shape, mean.dtype)
    axis = parameters["logits"].ndim - 1
    each = jax.vmap(log_prob, (None, axis), -1)(parameters, x)
    return -(jax.nn.softmax(parameters["logits"]) * each).sum(-1)


def kl(p: Params, q: Params) -> Array:
    """KL(p || q) from above, [...]: that of draws together with the components they come from, each of which is one of both mixtures.

    There is no closed form of the divergence itself. The bound is 0 where the parameters are the same.
    """
    log_p, log_q = (jax.nn.log_softmax(one["logits"]) for one in (p, q))
    each = gaussian_kl(p["mean"], p["log_std"], q["mean"], q["log_std"]).sum(_event(p))
    return (jnp.exp(log_p) * (log_p - log_q + each)).sum(-1)


def mode(parameters: Params) -> Array:
    """[..., *event], the mean of the likeliest component: where components overlap, not the highest density."""
    return _of(jnp.argmax(parameters["logits"], -1), parameters["mean"])


def robomimic_parameters(logits: Array, mean: Array, std: Array, minimum_std: float = 1e-4) -> dict[str, Array]:
    """Of the free outputs of a network, as in robomimic: means within [-1, 1] by tanh, standard deviations by softplus."""
    return {"logits": logits, "mean": jnp.tanh(mean), "log_std": jnp.log(jax.nn.softplus(std) + minimum_std)}


def with_low_noise(parameters: Params, std: float = 1e-4) -> dict[str, Array]:
    """The same with that standard deviation everywhere: a draw is the mean of a component that is drawn by its weight, as good as exactly.

    So robomimic acts in evaluation, whatever was learnt.
    """
    return dict(parameters) | {"log_std": jnp.full_like(parameters["log_std"], jnp.log(std))}


def mixture(components: int = 5) -> Distribution:
    """Actions are the draws themselves; an action spec with two axes is that of a chunk, which then is drawn as one.

    Raises:
        ValueError: there is no component.
    """
    if components < 1:
        raise ValueError(f"components is {components}, but a mixture needs at least 1")

    def parameters(action: ArraySpec) -> Spec:
        each = ArraySpec((components, *action.shape), names=action.names)
        return {"logits": ArraySpec((components,)), "mean": each, "log_std": each}

    return Distribution(sample, log_prob, entropy, kl, mode, lambda x: x, parameters)
