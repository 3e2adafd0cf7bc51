"""Random network distillation (Burda et al. 2018, https://arxiv.org/abs/1810.12894): what a network cannot yet predict is new.

A network learns to say what another, random one says of an observation. Where it has been wrong, few observations were like this one.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import optimizers
from jaxrl.networks._groups import concatenate, groups, width
from jaxrl.networks.mlp import mlp
from jaxrl.ops import running_statistics
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.types import Algorithm, Array, ArraySpec, EnvSpec, Key, Metrics, Observation, Params, PyTree, Replayed, TrainState

_CLIP = 5.0  # of normalised observations (section 2.4)


@dataclass(frozen=True)
class Config:
    """`weight` is the bonus, in rewards, of what is one standard deviation newer than nothing; `size` that of what is to be predicted."""

    weight: float = 1.0
    hidden: tuple[int, ...] = (256, 256)
    size: int = 64
    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"weight is {self.weight}, but must not be negative")
        if self.size < 1:
            raise ValueError(f"size is {self.size}, but must be at least 1")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, but must be above 0")


class Novelty(NamedTuple):
    """What tells the new from the old."""

    target: Params  # of the random network
    predictor: Params
    opt_state: PyTree
    seen: RunningStatistics  # of observations
    error: RunningStatistics  # of the predictor


class Extra(NamedTuple):
    """That of the algorithm, and what the bonus keeps."""

    own: PyTree
    novelty: Novelty


def paid(reward: Array, bonus: Array, steps: Array | None) -> Array:
    """Rewards with the bonus of the observation that follows; of n steps [..., n], the last of those that were made gets it."""
    if steps is None:
        return reward + bonus
    last = jax.nn.one_hot(steps - 1, reward.shape[-1], dtype=reward.dtype)
    return reward + last * bonus[..., None]


def rnd(config: Config, spec: EnvSpec, algorithm: Algorithm) -> Algorithm:
    """`algorithm` with a bonus for each step, which follows from the observation after it: all vectors of the policy's, no images.

    The bonus is the predictor's squared error over its running standard deviation, times `weight`; it is computed anew whenever a step is
    learnt from, so that a replayed step is worth less once it is known. The predictor makes one step for each batch. Bonuses are one
    stream with the rewards, and so end where episodes do. Feedback and behaviour are those of `algorithm`.

    Raises:
        ValueError: there is no state group, or a group is not a vector.
    """
    names = groups(spec.observation, "rnd")
    shown = {name: spec.observation[name] for name in names}
    network = mlp(width(spec.observation, names), config.hidden, config.size, "relu")
    tx = optimizers.optimizer(optimizers.Config(learning_rate=config.learning_rate))

    def unwrapped(state: TrainState) -> TrainState:
        return state._replace(extra=state.extra.own)

    def init(key: Key, pretrained: Params | None = None) -> TrainState:
        own, random, learnt = jax.random.split(key, 3)
        state, predictor = algorithm.init(own, pretrained), network.init(learnt)
        error = running_statistics.init({"error": ArraySpec(())})
        novelty = Novelty(network.init(random), predictor, tx.init(predictor), running_statistics.init(shown), error)
        return state._replace(extra=Extra(state.extra, novelty))

    def errors(predictor: Params, novelty: Novelty, observation: Observation) -> Array:
        """[...] of each observation."""
        x = concatenate(running_statistics.normalise(novelty.seen, observation, _CLIP), names)
        return jnp.square(network.apply(predictor, x) - jax.lax.stop_gradient(network.apply(novelty.target, x))).mean(-1)

    def learn(novelty: Novelty, observation: Observation) -> tuple[Novelty, Array]:
        """The error of each observation before the step."""
        novelty = novelty._replace(seen=running_statistics.update(novelty.seen, observation))

        def loss(predictor: Params) -> tuple[Array, Array]:
            error = errors(predictor, novelty, observation)
            return error.mean(), error

        gradient, error = jax.grad(loss, has_aux=True)(novelty.predictor)
        steps, opt_state = tx.update(gradient, novelty.opt_state, novelty.predictor)
        known = running_statistics.update(novelty.error, {"error": error})
        return novelty._replace(predictor=optax.apply_updates(novelty.predictor, steps), opt_state=opt_state, error=known), error

    def update(state: TrainState, batch: Any, key: Key) -> tuple[TrainState, Metrics, PyTree]:
        seen = {name: batch.next_observation[name] for name in names}
        novelty, error = learn(state.extra.novelty, seen)
        bonus = config.weight * error / jnp.sqrt(novelty.error.variance["error"] + 1e-8)
        steps = batch.steps if isinstance(batch, Replayed) else None
        batch = batch._replace(reward=paid(batch.reward, bonus, steps))
        after, metrics, feedback = algorithm.update(unwrapped(state), batch, key)
        metrics = metrics | {"bonus": bonus.mean(), "loss/novelty": error.mean()}
        return after._replace(extra=Extra(after.extra, novelty)), metrics, feedback

    return algorithm._replace(
        init=init,
        update=update,
        behaviour=lambda state: algorithm.behaviour(unwrapped(state)),
        deployable=lambda state: algorithm.deployable(unwrapped(state)),
    )
