"""The whole distribution from the first episode on, drawn anew in each episode."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxrl.types import Array, Curriculum, Env, Key, Params, PyTree


@dataclass(frozen=True)
class Config:
    """Nothing to choose."""


def static(config: Config, env: Env) -> Curriculum:
    """Draws from `env.sample`; outcomes change nothing."""
    del config
    return fixed(env.sample)


def fixed(distribution: Callable[[Key], Params]) -> Curriculum:
    """Draws from `distribution`, whatever the outcomes."""

    def draw(state: PyTree, key: Key) -> tuple[Params, PyTree]:
        return distribution(key), ()

    def credit(tally: PyTree, tags: PyTree, outcomes: Array, count: Array) -> PyTree:
        return tally

    return Curriculum(lambda: (), draw, lambda: (), credit, lambda state, tally: state, lambda state: {})
