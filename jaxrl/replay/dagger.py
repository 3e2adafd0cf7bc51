"""Data set aggregation: all that a student did under an expert's eyes, with what the expert would have done (Ross et al. 2011,
https://arxiv.org/abs/1011.0686). Who acts, and which steps count, is the collecting policy's business (`policies.overseen`).
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax.sharding import Mesh

from jaxrl.ops.specs import with_axes
from jaxrl.replay import sequences
from jaxrl.replay.store import parts
from jaxrl.types import ArraySpec, Key, Params, PyTree, Source

LABEL, COUNTS = "expert", "counts"


@dataclass(frozen=True)
class Config:
    """`capacity` steps of all worlds are kept; the first `initial_steps` are the expert's own. `horizon` is that of a chunk."""

    capacity: int = 100_000
    batch_size: int = 256
    horizon: int = 1
    initial_steps: int = 5000

    def __post_init__(self) -> None:
        self.drawn()

    def drawn(self) -> sequences.Config:
        """Raises ValueError where a number is impossible."""
        if self.initial_steps < 1:
            raise ValueError(f"initial_steps is {self.initial_steps}, but the first steps are what there is to learn from at the beginning")
        return sequences.Config(self.capacity, self.batch_size, 1, self.horizon, self.initial_steps)


def dagger(config: Config, collector: Source, num_worlds: int, filler: Source, mesh: Mesh | None = None) -> Source:
    """A source of `observation` {name: [B, ...]}, `action` [B, horizon, A], the expert's, and `mask` [B, horizon, A].

    `collector` and `filler` yield transitions with the extras `expert` [A] and `counts` [], 0 at steps that are not to be learnt from. For
    each batch the collector acts once, as the student that has learnt until then, and what it saw stays in the memory.

    Raises:
        ValueError: the numbers do not divide, or the collector's steps have no labels.
    """
    labels = parts(collector.spec, "extras/")
    if missing := {LABEL, COUNTS} - labels.keys():
        raise ValueError(f"dagger: the collector's steps have no {', '.join(sorted(missing))}; collect them with jaxrl.policies.overseen")
    source = sequences.sequences(config.drawn(), collector, num_worlds, filler, mesh)
    action = parts(collector.spec, "action")[""]
    observation = parts(collector.spec, "observation/")

    def advance(state: PyTree, behaviour: Params, key: Key) -> tuple[PyTree, PyTree]:
        state, found = source.next(state, behaviour, key)
        steps = found.steps
        shown = {name: x[0, :, 0] for name, x in steps.observation.items() if not name.startswith("privileged/")}
        label = steps.extras[LABEL][0]
        counts = (found.mask * steps.extras[COUNTS])[0]
        return state, {"observation": shown, "action": label, "mask": jnp.broadcast_to(counts[..., None], label.shape)}

    shown = {name: part for name, part in observation.items() if not name.startswith("privileged/")}
    chunk = {"action": action, "mask": ArraySpec(action.shape)}
    spec = with_axes(shown, (config.batch_size,), "observation/") | with_axes(chunk, (config.batch_size, config.horizon))
    return source._replace(spec=spec, next=advance)
