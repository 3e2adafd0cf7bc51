"""A policy's results: beside doing nothing, along a training run, as frames of a video."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.evaluation import report
from jaxrl.evaluation.motion import motions, moving
from jaxrl.evaluation.open_loop import Episode
from jaxrl.evaluation.play import Played, Step, draw, play, repeat, returns
from jaxrl.evaluation.play_on_host import play_on_host
from jaxrl.policies.constant import constant
from jaxrl.types import Env, HostEnv, Metrics, Params, Policy

FRAMES_PER_SECOND = 30
UNTIMED_STEP = 0.05  # s that a step of an environment without time lasts in a video


def evaluate(
    env: Env | HostEnv,
    policy: Policy,
    params: Params,
    num_episodes: int,
    seed: int,
    others: Sequence[Params] = (),
    demonstrations: Sequence[Episode] = (),
) -> dict[str, Any]:
    """Results of a policy in the nominal and in the randomised world, beside a policy that does nothing, as plain JSON.

    All episodes of the policy run in one compiled call; they follow from the seed, so two policies meet the same ones. What is not ours
    to randomise, a `HostEnv`, is nominal. `others` are the parameters of a run's other seeds: "seeds" then tells how all of them do.
    With `demonstrations`, "motion" tells how the policy moves beside them.
    """
    trials = _trials(env, policy, num_episodes, seed, moving if demonstrations else returns)
    played = trials.act(params)
    conditions = {**played, "standing_baseline": trials.stand()}
    results: dict[str, Any] = {name: report.intervals(conditions[name]) for name in report.CONDITIONS if name in conditions} | {
        "num_episodes": num_episodes,
        "by_condition": {name: report.by_condition(one) for name, one in played.items()},
        "by_parameter": report.by_parameter(played["randomised"], trials.summary) if "randomised" in played else {},
    }
    if demonstrations:
        results["motion"] = motions(played, demonstrations, env.spec.action, env.spec.dt)
    return results | ({"seeds": report.by_seed([played, *map(trials.act, others)])} if others else {})


class Acting(NamedTuple):
    """A policy with its parameters."""

    policy: Policy
    params: Params


def compare(env: Env | HostEnv, first: Acting, second: Acting, num_episodes: int, seed: int) -> dict[str, Any]:
    """Two policies in the same episodes, by condition, and the first minus the second with intervals of pairs, as plain JSON."""
    both = [_trials(env, one.policy, num_episodes, seed).act(one.params) for one in (first, second)]
    return {"num_episodes": num_episodes} | {name: report.differences(both[0][name], both[1][name]) for name in both[0]}


class _Trials(NamedTuple):
    """The episodes of an evaluation."""

    act: Callable[[Params], dict[str, Played]]  # the policy's, by condition
    stand: Callable[[], Played]  # of a policy that does nothing, in the nominal world
    summary: Mapping[str, Any]  # physics parameters [N] of the randomised ones


def _trials(env: Env | HostEnv, policy: Policy, num_episodes: int, seed: int, keep: Callable[[Step], Any] = returns) -> _Trials:
    if isinstance(env, HostEnv):
        return _on_host(env, policy, num_episodes, seed, keep)
    return _on_device(env, policy, num_episodes, seed, keep)


def _on_host(env: HostEnv, policy: Policy, num_episodes: int, seed: int, keep: Callable[[Step], Any]) -> _Trials:
    return _Trials(
        act=lambda params: {"nominal": play_on_host(env, policy, params, num_episodes, seed, keep)},
        stand=lambda: play_on_host(env, constant(policy.spec), (), num_episodes, seed),
        summary={},
    )


def _on_device(env: Env, policy: Policy, num_episodes: int, seed: int, keep: Callable[[Step], Any]) -> _Trials:
    draws, episodes = jax.random.split(jax.random.key(seed))
    nominal, randomised = repeat(env.nominal, num_episodes), draw(env.sample, draws, num_episodes)
    both: Params = jax.tree.map(lambda a, b: np.concatenate([a, b]), nominal, randomised)
    run = play(env, policy, keep=keep, num_episodes=2 * num_episodes)

    def act(params: Params) -> dict[str, Played]:
        played = jax.device_get(run(params, both, episodes))
        return {"nominal": _rows(played, slice(num_episodes)), "randomised": _rows(played, slice(num_episodes, None))}

    def stand() -> Played:
        return jax.device_get(play(env, constant(policy.spec), num_episodes=num_episodes)((), nominal, episodes))

    return _Trials(act, stand, env.space.summary(jax.device_get(randomised)) if env.space else {})


def _rows(played: Played, rows: slice) -> Played:
    steps = jax.tree.map(lambda x: x[:, rows], (played.alive, played.kept))
    return Played(steps[0], played.terminated[rows], played.diverged[rows], steps[1])


def _randomised(env: Env | HostEnv, policy: Policy, num_episodes: int, seed: int) -> Callable[[Params], Played]:
    """deployable parameters -> the same episodes each time, as numpy arrays, in the randomised world where there is one."""
    if isinstance(env, HostEnv):
        return lambda params: play_on_host(env, policy, params, num_episodes, seed)
    draws, episodes = jax.random.split(jax.random.key(seed))
    parameters, run = draw(env.sample, draws, num_episodes), play(env, policy, num_episodes=num_episodes)
    return lambda params: jax.device_get(run(params, parameters, episodes))


def periodic(env: Env | HostEnv, policy: Policy, num_episodes: int, seed: int, num_seeds: int = 1) -> Callable[[Params], Metrics]:
    """deployable parameters -> means over the same episodes in the randomised world each time; [num_seeds] with several seeds."""
    run = _randomised(env, policy, num_episodes, seed)

    def means(params: Params) -> dict[str, float]:
        played = run(params)
        return {f"episode/{name}": float(np.nanmean(values)) for name, values in report.metrics_of(played).items()}

    return for_seeds(means, num_seeds)


def for_seeds(means: Callable[[Params], dict[str, float]], num_seeds: int) -> Callable[[Params], Metrics]:
    """`means` of deployable parameters as metrics; [num_seeds] with several seeds, of which parameters have an axis then."""

    def measure(params: Params) -> Metrics:
        if num_seeds == 1:
            return {name: jnp.asarray(value) for name, value in means(params).items()}
        each = [means(jax.tree.map(lambda leaf, i=i: leaf[i], params)) for i in range(num_seeds)]
        return {name: jnp.asarray([one[name] for one in each]) for name in each[0]}

    return measure


def filmed(env: Env | HostEnv, policy: Policy, params: Params, seconds: float, seed: int, width: int, height: int) -> tuple[Any, float]:
    """Frames [N, height, width, 3] uint8 of one episode in the randomised world, and their number per second.

    Raises:
        ValueError: the environment draws nothing.
        ImportError, RuntimeError: it cannot draw on this machine; says what to install.
    """
    if isinstance(env, HostEnv) or env.render is None:
        raise ValueError(f"{env.spec.name} has nothing to draw")
    dt = env.spec.dt or UNTIMED_STEP
    steps = min(env.spec.episode_length, math.ceil(seconds / dt))
    draws, episodes = jax.random.split(jax.random.key(seed))
    run = play(env, policy, steps, keep=lambda step: step.state, num_episodes=1)
    played = jax.device_get(run(params, draw(env.sample, draws, 1), episodes))
    stride = max(1, round(1 / FRAMES_PER_SECOND / dt))
    states = jax.tree.map(lambda x: x[played.alive[:, 0], 0][::stride], played.kept)
    return env.render(states, width, height), 1 / (dt * stride)
