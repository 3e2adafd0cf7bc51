"""Recorded episodes as a policy that learnt from a mixture is shown them, step by step: for open-loop figures."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxrl.types import ArraySpec
from jaxrl_data import dataset_source, stream_source
from jaxrl_data.episode import Episode, length
from jaxrl_data.members import Part
from jaxrl_data.mixture import Mixture
from jaxrl_data.samples import Fed, open_mixture, over_time, random_of
from jaxrl_data.selection import steps_of
from jaxrl_data.streaming.members import read_block
from jaxrl_data.transforms.interface import Sample, Transform, apply, invert
from jaxrl_data.transforms.keys import ACTION, HELD_OUT
from jaxrl_data.transforms.window import GoalWindow, IdleFilter, Window

MOST = 2**30  # bytes of all episodes, shared out evenly to the sets
_SEEN = "observation/"
_KEPT = "reference/"


class Shown(NamedTuple):
    """An episode: T steps at the rate of the policy, of which those count that may be drawn."""

    observation: dict[str, np.ndarray]  # [T, ...] of each step alone
    action: np.ndarray  # [T, horizon, A] the chunk from each step on, in the numbers that the policy puts out
    counts: np.ndarray  # [T] bool
    own: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (steps [n], chunks [n, k, A]) -> [n, k, D] as the data hold them


class OfSet(NamedTuple):
    """Of one set."""

    episodes: list[Shown]
    action: ArraySpec  # of one step, as the data hold it


def shown(config: dataset_source.Config | stream_source.Config, part: Part, number: int) -> dict[str, OfSet]:
    """Of each set up to `number` episodes of the part, evenly from all of a cache, the first of a stream; fewer where they get too large.

    Nothing is made up, as in validation, but that goals are drawn.

    Raises:
        ValueError: a set cannot be opened, or an episode not be used.
    """
    if isinstance(config, stream_source.Config):
        return _of_streams(replace(config, part=part), number)
    samples, most = open_mixture(replace(dataset_source.mixture_of(config), part=part)), MOST // len(config.sets)
    return {name: OfSet(list(_within(_cached(samples.config, one, number), most)), _own(one.member)) for name, one in samples.fed.items()}


def _own(told: Any) -> ArraySpec:
    """What the data hold of an action."""
    own: ArraySpec = told.features.arrays[ACTION]
    return own


def _within(episodes: Iterator[Shown], most: int) -> Iterator[Shown]:
    """As many as there is room for in `most` bytes, one at least."""
    size = 0
    for one in episodes:
        size += sum(array.nbytes for array in one.observation.values()) + one.action.nbytes
        yield one
        if size > most:
            return


def _cached(config: Mixture, fed: Fed, number: int) -> Iterator[Shown]:
    member = fed.member
    places = np.unique(np.linspace(0, len(member.chosen) - 1, min(number, len(member.chosen))).round().astype(int))
    for place in places.tolist():
        yield _shown(config, member.episode(int(member.chosen[place])), fed.window, fed.transforms, member.given.idle)


def _of_streams(config: stream_source.Config, number: int) -> dict[str, OfSet]:
    mixed = stream_source.open_mixed(config)

    def episodes(name: str) -> Iterator[Shown]:
        stream, left = mixed.streams[name], number
        for place in range(stream.blocks):
            for one in read_block(stream, place, mixed.choice, mixed.note).episodes[:left]:
                yield _shown(config, one, mixed.making.window, mixed.making.transforms[name], stream.given.idle)
                left -= 1
            if not left:
                return

    try:
        most = MOST // len(config.sets)
        return {name: OfSet(list(_within(episodes(name), most)), _own(stream)) for name, stream in mixed.streams.items()}
    finally:
        mixed.close()


def _shown(
    config: Mixture, episode: Episode, window: Window | GoalWindow, transforms: tuple[Transform, ...], idle: IdleFilter | None
) -> Shown:
    steps, kept = np.arange(0, length(episode), config.action_stride), steps_of(episode, idle)
    samples = [_sample(config, episode, int(step), window, transforms) for step in steps]
    names = [name for name, value in samples[0].items() if name.startswith(_SEEN) and isinstance(value, np.ndarray)]
    return Shown(
        # Of a history the present step, which a policy remembers by itself.
        {name.removeprefix(_SEEN): np.stack([one[name][-1] if over_time(name) else one[name] for one in samples]) for name in names},
        np.stack([one[ACTION] for one in samples]),
        np.ones(len(steps), bool) if kept is None else np.isin(steps, kept),
        partial(_undone, transforms, [{name: one[name] for name in one if name.startswith(_KEPT)} for one in samples]),
    )


def _sample(config: Mixture, episode: Episode, step: int, window: Window | GoalWindow, transforms: tuple[Transform, ...]) -> Sample:
    random = random_of(config.seed, step)
    return apply(transforms, {**window(episode, step, random), HELD_OUT: True}, random)


def _undone(transforms: tuple[Transform, ...], references: list[Sample], steps: np.ndarray, chunks: np.ndarray) -> np.ndarray:
    pairs = zip(steps.tolist(), chunks, strict=True)
    return np.stack([invert(transforms, {ACTION: chunk.astype(np.float32), **references[step]})[ACTION] for step, chunk in pairs])
