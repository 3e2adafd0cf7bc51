"""Our PPO, as a contestant of the benchmarks of whole training."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Settings(NamedTuple):
    """What both trainers are given."""

    num_worlds: int = 1024
    unroll_length: int = 16
    episode_length: int = 1000
    num_minibatches: int = 4
    num_epochs: int = 4
    learning_rate: float = 3e-4
    gamma: float = 0.97
    gae_lambda: float = 0.95
    clip: float = 0.3
    entropy_weight: float = 1e-3
    value_weight: float = 0.5
    max_gradient_norm: float = 1.0
    actor_hidden: tuple[int, ...] = (128, 128)
    critic_hidden: tuple[int, ...] = (128, 128)


class Parts(NamedTuple):
    env: Any
    algorithm: Any
    source: Any


def parts(env: Any, settings: Settings, unroll_length: int | None = None) -> Parts:
    """PPO in `env`, with the networks and the loss of brax's."""
    from jaxrl.algorithms import ppo
    from jaxrl.curricula.static import fixed
    from jaxrl.networks import actor_critic
    from jaxrl.rollout import rollout

    s = settings
    network = actor_critic.Config(
        actor_hidden=s.actor_hidden,
        critic_hidden=s.critic_hidden,
        activation="swish",
        distribution="tanh_normal",
        standard_deviation="output",
        initial_std=0.6941,  # softplus(0) + minimum_std, where brax starts
        minimum_std=1e-3,
    )
    config = ppo.Config(
        learning_rate=s.learning_rate,
        num_epochs=s.num_epochs,
        num_minibatches=s.num_minibatches,
        gamma=s.gamma,
        gae_lambda=s.gae_lambda,
        clip=s.clip,
        value_clip=None,
        value_weight=s.value_weight,
        entropy_weight=s.entropy_weight,
        max_gradient_norm=s.max_gradient_norm,
    )
    algorithm = ppo.ppo(config, env.spec, actor_critic.actor_critic(network, env.spec))
    source = rollout.rollout(rollout.Config(s.num_worlds, unroll_length or s.unroll_length), env, fixed(env.sample), algorithm.explore)
    return Parts(env, algorithm, source)


def train(env: Any, settings: Settings, updates: int, after_block: Callable[[float], None]) -> None:
    """Runs `fit` until the process ends; `after_block` gets the seconds between two reports, `updates` apart."""
    from jaxrl.training import fit
    from jaxrl.training.callbacks import Callback
    from jaxrl.training.compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    made = parts(env, settings)
    began = time.perf_counter()

    def write(report: Any) -> None:
        nonlocal began
        after_block(time.perf_counter() - began)
        began = time.perf_counter()

    config = fit.Config(total_updates=10_000 * updates, updates_per_call=updates)
    fit.fit(config, made.algorithm, made.source, fit.Extras(callback=Callback(write, lambda: None)))
