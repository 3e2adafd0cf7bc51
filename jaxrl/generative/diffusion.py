"""Samplers of denoising diffusion.

A sampler is a table of numbers, for all of them take steps of one form (`Steps`); one loop runs them all. The numbers are those of
diffusers' schedulers: DDPMScheduler (fixed_small), DDIMScheduler (eta 0) and DPMSolverMultistepScheduler.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.generative.rows import Denoise, Known, hold
from jaxrl.generative.schedules import Schedule
from jaxrl.losses.denoising import Prediction, converted, diffused
from jaxrl.types import Array


class Steps(NamedTuple):
    """N steps from noise to a chunk, as numbers in float64. With the chunk x0 that the network makes out of x, each is

    x <- noisy * x + sample * x0 + before * (x0 of the last step) + epsilon * (noise in x) + fresh * (standard normal)
    """

    time: np.ndarray  # [N] in [0, 1): the step of the schedule, as a fraction of their number
    alpha_bar: np.ndarray  # [N + 1] of x before each step, and after the last, where it is 1
    noisy: np.ndarray  # [N], and so are the rest
    sample: np.ndarray
    before: np.ndarray
    epsilon: np.ndarray
    fresh: np.ndarray


def _check(number: int, most: int, what: str) -> None:
    if not 1 <= number <= most:
        raise ValueError(f"inference_steps is {number}, but must be from 1 to {most}, {what}")


def leading(total: int, number: int) -> np.ndarray:
    """`number` of `total` steps at whole distances, down to 0: the "leading" spacing of diffusers, the one that LeRobot uses.

    Raises:
        ValueError: there are not that many.
    """
    _check(number, total, "the number of steps trained on")
    return np.arange(number)[::-1] * (total // number)


def linspace(total: int, number: int) -> np.ndarray:
    """`number` of `total` steps, the first of which is the last of all; 0 is not among them.

    Raises:
        ValueError: there are not that many.
    """
    _check(number, total - 1, "one less than the number of steps trained on")
    return np.linspace(0, total - 1, number + 1).round()[:0:-1].astype(int)


def _levels(schedule: Schedule, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Time [N] and alpha_bar [N + 1] of these steps and of a chunk without noise."""
    return steps / len(schedule.betas), np.append(schedule.alpha_bar[steps], 1.0)


def ddpm(schedule: Schedule, number: int) -> Steps:
    """Ancestral sampling with the posterior's own variance (Ho et al. 2020, https://arxiv.org/abs/2006.11239, equations 6 and 7)."""
    time, alpha_bar = _levels(schedule, leading(len(schedule.betas), number))
    left, variance, variance_after = alpha_bar[:-1] / alpha_bar[1:], 1.0 - alpha_bar[:-1], 1.0 - alpha_bar[1:]
    sample = np.sqrt(alpha_bar[1:]) * (1.0 - left) / variance
    noisy = np.sqrt(left) * variance_after / variance
    fresh = np.sqrt(variance_after / variance * (1.0 - left))
    return Steps(time, alpha_bar, noisy, sample, 0 * time, 0 * time, fresh)


def ddim(schedule: Schedule, number: int) -> Steps:
    """The deterministic one (Song et al. 2021, https://arxiv.org/abs/2010.02502, equation 12 with eta 0)."""
    time, alpha_bar = _levels(schedule, leading(len(schedule.betas), number))
    return Steps(time, alpha_bar, 0 * time, np.sqrt(alpha_bar[1:]), 0 * time, np.sqrt(1.0 - alpha_bar[1:]), 0 * time)


def dpm_solver(schedule: Schedule, number: int) -> Steps:
    """DPM-Solver++ 2M, with first and last steps of first order (Lu et al. 2022, https://arxiv.org/abs/2211.01095, algorithm 2).

    Its steps are those of `linspace`, the default of diffusers for this one.
    """
    time, alpha_bar = _levels(schedule, linspace(len(schedule.betas), number))
    signal, sigma = np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar)
    noisy = sigma[1:] / sigma[:-1]
    first = signal[1:] - signal[:-1] * noisy  # of a step of first order
    h = np.diff(np.log(signal[:-1] / sigma[:-1]))  # of all steps but the last, whose is infinite
    ratio = np.zeros_like(time)  # of a step's h to twice that of the step before; 0 where a step is of first order
    ratio[1:-1] = h[1:] / h[:-1] / 2
    return Steps(time, alpha_bar, noisy, first * (1.0 + ratio), -first * ratio, 0 * time, 0 * time)


SAMPLERS: dict[str, Callable[[Schedule, int], Steps]] = {"ddpm": ddpm, "ddim": ddim, "dpm_solver": dpm_solver}


def sample(
    steps: Steps,
    denoise: Denoise,
    start: Array,
    noise: Callable[[Array], Array],
    prediction: Prediction = "epsilon",
    clip: float = 0.0,
    known: Known | None = None,
) -> Array:
    """From noise `start` [B, H, A] to chunks. `noise(i)` [B, H, A] is what step i adds; samplers that add none do not call it.

    The chunk that the network makes out is clipped to +-`clip` at each step, 0 does not clip. Known steps are put in place at each step,
    with the noise that belongs there: that of the step, or that of the start where steps add none.
    """
    random, table = bool(steps.fresh.any()), steps._asdict()
    table |= {"alpha_bar": steps.alpha_bar[:-1], "alpha_bar_after": steps.alpha_bar[1:]}
    rounded = {name: jnp.asarray(numbers, jnp.float32) for name, numbers in table.items()}

    def step(carry: tuple[Array, Array], at: tuple[Array, dict[str, Array]]) -> tuple[tuple[Array, Array], None]:
        (x, before), (i, now) = carry, at
        output = denoise(x, jnp.broadcast_to(now["time"], x.shape[:1]))
        chunk = converted(output, x, now["alpha_bar"], prediction, "sample")
        if clip:
            chunk = jnp.clip(chunk, -clip, clip)
        after = now["noisy"] * x + now["sample"] * chunk + now["before"] * before
        if steps.epsilon.any():  # of the network's own answer, as diffusers has it, not of the clipped chunk
            after = after + now["epsilon"] * converted(output, x, now["alpha_bar"], prediction, "epsilon")
        added = noise(i) if random else start
        if random:
            after = after + now["fresh"] * added
        return (hold(known, after, lambda c: diffused(c, added, now["alpha_bar_after"])), chunk), None

    first = hold(known, start, lambda c: diffused(c, start, rounded["alpha_bar"][0]))
    (x, _), _ = jax.lax.scan(step, (first, jnp.zeros_like(start)), (jnp.arange(len(steps.time)), rounded))
    return hold(known, x, lambda chunk: chunk)
