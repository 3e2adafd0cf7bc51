"""What a network that sees data under noise is to say: targets of denoising score matching and of flow matching.

The loss is a regression towards these targets. Levels of noise, `alpha_bar` and `time`, belong to the leading axes: [B] to a batch
[B, H, A], [B, H] where each step of a chunk has its own.
"""

from typing import Literal

import jax.numpy as jnp

from jaxrl.types import Array

Prediction = Literal["epsilon", "sample", "v"]

_SMALLEST = 1e-20  # of alpha_bar and of 1 - alpha_bar: at its ends a prediction tells nothing of one of the two, which then is finite


def _against(level: Array, x: Array) -> Array:
    """`level` with axes behind its own, to the rank of `x`."""
    return level.reshape(*level.shape, *(1,) * (x.ndim - level.ndim))


def _shares(alpha_bar: Array, x: Array) -> tuple[Array, Array]:
    """Of data and noise: `sqrt(alpha_bar)`, `sqrt(1 - alpha_bar)`."""
    alpha_bar = _against(alpha_bar, x)
    return jnp.sqrt(jnp.maximum(alpha_bar, _SMALLEST)), jnp.sqrt(jnp.maximum(1.0 - alpha_bar, _SMALLEST))


# Diffusion: alpha_bar falls from 1, data, to 0, noise.


def diffused(sample: Array, noise: Array, alpha_bar: Array) -> Array:
    """`sqrt(alpha_bar) sample + sqrt(1 - alpha_bar) noise` (Ho et al. 2020, https://arxiv.org/abs/2006.11239, equation 4)."""
    data_share, noise_share = _shares(alpha_bar, sample)
    return data_share * sample + noise_share * noise


def diffusion_target(prediction: Prediction, sample: Array, noise: Array, alpha_bar: Array) -> Array:
    """What a network is to say of `diffused`: the noise (Ho et al. 2020, equation 14), the sample, or
    `v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) sample` (Salimans and Ho 2022, https://arxiv.org/abs/2202.00512, section 4)."""
    if prediction == "v":
        data_share, noise_share = _shares(alpha_bar, sample)
        return data_share * noise - noise_share * sample
    return noise if prediction == "epsilon" else sample


def converted(value: Array, noisy: Array, alpha_bar: Array, given: Prediction, wanted: Prediction) -> Array:
    """The same prediction told in another way (Salimans and Ho 2022, section 4 and appendix D): `given` "epsilon" and `wanted` "sample"
    makes the sample that a network means by its noise, for what it was shown, `noisy`."""
    if given == wanted:
        return value
    data_share, noise_share = _shares(alpha_bar, noisy)
    if given == "v":
        sample, noise = data_share * noisy - noise_share * value, noise_share * noisy + data_share * value
    elif given == "epsilon":
        sample, noise = (noisy - noise_share * value) / data_share, value
    else:
        sample, noise = value, (noisy - data_share * value) / noise_share
    return diffusion_target(wanted, sample, noise, alpha_bar)


# Flow matching with straight paths: time rises from 0, data, to 1, noise.


def interpolated(sample: Array, noise: Array, time: Array) -> Array:
    """`time noise + (1 - time) sample` (Lipman et al. 2023, https://arxiv.org/abs/2210.02747, equation 22 with sigma_min 0).

    Time runs as in openpi. Where data is at 1, as in that paper and in GR00T, `time` is 1 minus theirs and the velocity minus theirs.
    """
    time = _against(time, sample)
    return time * noise + (1.0 - time) * sample


def velocity(sample: Array, noise: Array) -> Array:
    """`noise - sample`, the slope of `interpolated` along time (Lipman et al. 2023, equation 23)."""
    return noise - sample


def flow_ends(velocity: Array, noisy: Array, time: Array) -> tuple[Array, Array]:
    """The sample and the noise that a velocity means at `noisy`: where its straight line meets time 0 and time 1."""
    time = _against(time, noisy)
    return noisy - time * velocity, noisy + (1.0 - time) * velocity
