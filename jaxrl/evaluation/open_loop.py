"""Open loop: what a policy would have done in recorded episodes, beside what was done. They go on as recorded, whatever it does."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.evaluation.play import play
from jaxrl.evaluation.statistics import mean_interval
from jaxrl.replay.recording import Recording
from jaxrl.types import Array, ArraySpec, Env, EnvSpec, Key, Observation, Params, Policy, PolicySpec, TimeStep

AT_ONCE = 64  # episodes that are shown at the same time, if they are not too large:
BYTES = 2**28
CONSTANT = 1e-6  # range of a dimension, in its unit, below which nothing is relative to it


def _same(steps: np.ndarray, chunks: np.ndarray) -> np.ndarray:
    """The `own` of data that are learnt from as they are."""
    del steps
    return chunks


class Episode(NamedTuple):
    """A recorded episode as a policy is shown it: T steps, at the rate at which it acts."""

    observation: dict[str, np.ndarray]  # [T, ...] of each step alone, without a history
    action: np.ndarray  # [T, H, A] the chunk that was demonstrated from each step on, in the numbers that the policy puts out
    counts: np.ndarray  # [T] bool: the step is one of those that are learnt from
    own: Callable[[np.ndarray, np.ndarray], np.ndarray] = _same
    # (steps [n], chunks [n, k, A] from them on, as the policy puts them out) -> [n, k, D] in the units of the data


class Replayed(NamedTuple):
    """The steps of an episode, in the units of the data."""

    predicted: np.ndarray  # [T, D] what the policy would have executed
    demonstrated: np.ndarray  # [T, D]
    counts: np.ndarray  # [T] bool, as of `Episode`


def episodes_of(recording: Recording, horizon: int) -> list[Episode]:
    """Those of a recording, with chunks of `horizon` steps; behind its end an episode's last action is repeated."""
    found, first = [], 0
    for end in recording.episode_ends.tolist():
        rows = np.minimum(np.arange(first, end)[:, None] + np.arange(horizon), end - 1)
        observation = {name: array[first:end] for name, array in recording.observation.items()}
        found.append(Episode(observation, recording.action[rows], np.ones(end - first, bool)))
        first = end
    return found


def replay(policy: Policy, params: Params, episodes: Sequence[Episode], seed: int = 0) -> list[Replayed]:
    """Shows the episodes to `policy`, which is asked as often as where it acts, remembers as there, and moves nothing.

    Raises:
        ValueError: there is no episode, or one shows other things than the policy reads.
    """
    return replaying(policy, episodes, seed)(params)


def replaying(policy: Policy, episodes: Sequence[Episode], seed: int = 0) -> Callable[[Params], list[Replayed]]:
    """`replay` for one params after another, compiled once; raises as it does."""
    if not episodes:
        raise ValueError("open loop: there is no episode to show to the policy")
    _check(policy.spec, episodes[0])
    length = max(len(one.counts) for one in episodes)
    size = sum(array[0].nbytes for array in episodes[0].observation.values()) * length
    together = max(1, min(AT_ONCE, len(episodes), BYTES // max(1, size)))
    run = play(_world(policy.spec, length), policy, keep=lambda step: step.action, num_episodes=together)

    def replayed(params: Params) -> list[Replayed]:
        found: list[Replayed] = []
        for number, first in enumerate(range(0, len(episodes), together)):
            group = [episodes[min(first + i, len(episodes) - 1)] for i in range(together)]  # the last is shown again where too few are left
            shown = {name: np.stack([_padded(one.observation[name], length) for one in group]) for name in policy.spec.observation}
            actions = np.asarray(run(params, shown, jax.random.fold_in(jax.random.key(seed), number)).kept)
            left = len(episodes) - first
            found += [_compared(one, actions[: len(one.counts), i], policy.spec.executed_steps) for i, one in enumerate(group[:left])]
        return found

    return replayed


def _check(spec: PolicySpec, episode: Episode) -> None:
    if len(spec.action.shape) != 1:
        raise ValueError(f"open loop: actions are of the shape {spec.action.shape}, but errors are those of vectors, [A]")
    for name, part in spec.observation.items():
        have = episode.observation.get(name)
        if have is None or have.shape[1:] != part.shape:
            shows = "nothing" if have is None else f"the shape {have.shape[1:]}"
            raise ValueError(f"open loop: the policy reads {name} of the shape {part.shape}, of which the episodes show {shows}")


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    """[length, ...]: the last row is repeated."""
    return rows[np.minimum(np.arange(length), len(rows) - 1)]


def _world(spec: PolicySpec, length: int) -> Env:
    """One that goes on as its physics params, observations [length, ...], say."""

    def seen(row: Array, shown: Observation) -> Observation:
        return {name: x[row] for name, x in shown.items()}

    def reset(key: Key, shown: Observation) -> tuple[Array, Observation]:
        del key
        return jnp.zeros((), jnp.int32), seen(jnp.zeros((), jnp.int32), shown)

    def step(row: Array, action: Array, shown: Observation, key: Key) -> tuple[Array, TimeStep]:
        del action, key
        row = jnp.minimum(row + 1, length - 1)
        return row, TimeStep(seen(row, shown), jnp.zeros(()), jnp.ones(()), jnp.zeros(()), {})

    def restart(row: Array, shown: Observation, key: Key) -> tuple[Array, Observation]:
        del key
        return row, seen(row, shown)

    told = EnvSpec("recorded episodes", spec.observation, spec.action, length, 1.0 / spec.rate if spec.rate else 0.0)
    return Env(told, reset, step, restart, nominal=(), sample=lambda key: ())


def _compared(episode: Episode, actions: np.ndarray, executed: int) -> Replayed:
    """What a policy put out step by step, [T, A], beside the chunks from the steps on at which it was asked.

    Chunk is compared with chunk: where actions are relative to what is seen at the chunk's first step, others would be of other things.
    """
    asked = np.arange(0, len(actions), executed)
    steps = asked[:, None] + np.arange(executed)
    put_out = actions[np.minimum(steps, len(actions) - 1)]
    both = [episode.own(asked, chunks) for chunks in (put_out, episode.action[asked, :executed])]
    predicted, demonstrated = (np.asarray(chunks, np.float64).reshape(-1, chunks.shape[-1])[: len(actions)] for chunks in both)
    return Replayed(predicted, demonstrated, episode.counts)


class _Steps(NamedTuple):
    """Those of all episodes that count."""

    predicted: np.ndarray  # [N, D]
    demonstrated: np.ndarray  # [N, D]
    episode: np.ndarray  # [N]
    width: np.ndarray  # [D] the range of what was demonstrated


def _steps(replayed: Sequence[Replayed]) -> _Steps:
    predicted, demonstrated = (np.concatenate([rows[one.counts] for one in replayed for rows in [one[k]]]) for k in range(2))
    if not len(predicted):
        raise ValueError("open loop: no step of these episodes counts; all are idle")
    episode = np.repeat(np.arange(len(replayed)), [int(one.counts.sum()) for one in replayed])
    return _Steps(predicted, demonstrated, episode, np.ptp(demonstrated, axis=0))


def dimensions(action: ArraySpec, number: int) -> list[tuple[str, str]]:
    """Name and unit of each of the `number` dimensions of an action; without names, they are counted from 0."""
    names = action.names if len(action.names) == number else tuple(map(str, range(number)))
    units = action.unit.split(",") if action.unit.count(",") == number - 1 else ["" if "," in action.unit else action.unit] * number
    return list(zip(names, units, strict=True))


def errors(replayed: Sequence[Replayed], action: ArraySpec) -> dict[str, Any]:
    """Of the steps that count, as plain JSON.

    Of each dimension the mean and the median of the absolute error in its unit, its `range` in the data, and the median relative to that,
    None where the range is none. As a whole the median and the mean of all relative errors, the mean with a 95 % interval over episodes,
    and `constant`: the mean of who always does the median of what was done.
    """
    steps = _steps(replayed)
    error = np.abs(steps.predicted - steps.demonstrated)
    always = np.abs(steps.demonstrated - np.median(steps.demonstrated, axis=0))
    varies = steps.width > CONSTANT
    table = {}
    for k, (name, unit) in enumerate(dimensions(action, error.shape[1])):
        median = float(np.median(error[:, k]))
        table[name] = {
            "unit": unit,
            "mean": float(error[:, k].mean()),
            "median": median,
            "range": float(steps.width[k]),
            "median_relative": median / float(steps.width[k]) if varies[k] else None,
        }
    whole: dict[str, Any] = {"median_relative": None, "mean_relative": None, "constant": None}
    if varies.any():
        relative = error[:, varies] / steps.width[varies]
        by_episode = [relative[steps.episode == number].mean() for number in np.unique(steps.episode)]
        whole = {
            "median_relative": float(np.median(relative)),
            "mean_relative": mean_interval(by_episode).to_json(),
            "constant": float((always[:, varies] / steps.width[varies]).mean()),
        }
    return {"episodes": len(np.unique(steps.episode)), "steps": len(error), **whole, "dimensions": table}
