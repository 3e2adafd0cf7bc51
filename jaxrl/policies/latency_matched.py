"""Leaves out the steps of a chunk that have passed before it can be executed (UMI, Chi et al. 2024, https://arxiv.org/abs/2402.10329)."""

import math
from dataclasses import dataclass
from typing import Any

from jaxrl.types import Array, Observation, Params, Policy, PyTree


@dataclass(frozen=True)
class Config:
    """`latency` [s] from the moment that an observation is of to the one at which its chunk begins to act: camera, inference, robot."""

    latency: float = 0.1

    def __post_init__(self) -> None:
        if self.latency < 0:
            raise ValueError(f"latency is {self.latency} s, but must not be negative")


def latency_matched(config: Config, policy: Policy) -> Policy:
    """Chunks lack their first `ceil(latency * rate)` steps.

    Raises:
        ValueError: the policy does not know its rate, or nothing would be left to execute.
    """
    spec = policy.spec
    if config.latency and spec.rate <= 0:
        raise ValueError("latency_matched: the policy does not know its control rate, so a latency in seconds has no meaning")
    late = math.ceil(config.latency * spec.rate - 1e-6)
    if spec.horizon - late < spec.executed_steps:
        raise ValueError(
            f"latency is {config.latency} s, {late} steps at {spec.rate:g} Hz, but the policy predicts {spec.horizon} steps, of which "
            f"{spec.executed_steps} are to be executed; predict more or execute fewer"
        )

    def act(params: Params, observation: Observation, carry: PyTree, key: Any, context: Any = None) -> tuple[Array, PyTree, dict]:
        chunk, carry, extras = policy.act(params, observation, carry, key, context)
        return chunk[:, late:], carry, extras

    return policy._replace(spec=spec._replace(horizon=spec.horizon - late), act=act)
