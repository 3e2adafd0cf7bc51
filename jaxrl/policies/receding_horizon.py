"""Executes the first steps of each chunk, then asks again (Chi et al. 2023, https://arxiv.org/abs/2303.04137, section 3.1)."""

from dataclasses import dataclass

from jaxrl.types import Policy


@dataclass(frozen=True)
class Config:
    """`executed_steps` of each chunk are executed."""

    executed_steps: int = 8

    def __post_init__(self) -> None:
        if self.executed_steps < 1:
            raise ValueError(f"executed_steps is {self.executed_steps}, but must be at least 1")


def receding_horizon(config: Config, policy: Policy) -> Policy:
    """Predicts what `policy` predicts.

    Raises:
        ValueError: it predicts fewer steps than are to be executed, or goes on from earlier chunks by another number of them.
    """
    if policy.spec.mixed:
        raise ValueError(
            f"these chunks go on from earlier ones of which {policy.spec.executed_steps} steps are executed; put receding_horizon before "
            "what mixes them"
        )
    if config.executed_steps > policy.spec.horizon:
        raise ValueError(f"executed_steps is {config.executed_steps}, but the policy predicts only {policy.spec.horizon} steps")
    return policy._replace(spec=policy.spec._replace(executed_steps=config.executed_steps))
