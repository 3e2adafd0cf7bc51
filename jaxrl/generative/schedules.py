"""How much noise there is at each step of a diffusion."""

import math
from typing import Literal, NamedTuple

import numpy as np

Name = Literal["squaredcos_cap_v2", "linear"]


class Schedule(NamedTuple):
    """Of T steps [T], the first of which has the least noise.

    In float64, since what samplers need are differences of these; they are rounded to float32 where arrays are made of them.
    """

    betas: np.ndarray  # variance that each step adds
    alpha_bar: np.ndarray  # what is left of the chunk's variance, the cumulative product of 1 - betas


def _of(betas: np.ndarray) -> Schedule:
    return Schedule(betas, np.cumprod(1.0 - betas))


def linear(num_steps: int, first: float = 1e-4, last: float = 0.02) -> Schedule:
    """Betas at even distances (Ho et al. 2020, https://arxiv.org/abs/2006.11239), whose bounds are meant for a thousand steps."""
    return _of(np.linspace(first, last, num_steps, dtype=np.float64))


def squaredcos_cap_v2(num_steps: int, largest: float = 0.999) -> Schedule:
    """alpha_bar is a squared cosine (Nichol and Dhariwal 2021, https://arxiv.org/abs/2102.09672), no beta is above `largest`."""
    time = np.arange(num_steps + 1, dtype=np.float64) / num_steps
    cosine = np.cos((time + 0.008) / 1.008 * (math.pi / 2)) ** 2
    return _of(np.minimum(1.0 - cosine[1:] / cosine[:-1], largest))


def schedule(name: Name, num_steps: int) -> Schedule:
    """The schedule of this name.

    Raises:
        ValueError: there is not a single step.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}, but a diffusion has at least 1")
    return squaredcos_cap_v2(num_steps) if name == "squaredcos_cap_v2" else linear(num_steps)
