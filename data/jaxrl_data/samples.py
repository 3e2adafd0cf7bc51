"""Samples of a mixture by their numbers: what stands between a number and a row of a batch. Nothing here remembers what was drawn."""

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxrl_data.buffers import Buffers
from jaxrl_data.episode import Episode
from jaxrl_data.kept_samples import KeptSamples, kept_bytes
from jaxrl_data.measured import Measured
from jaxrl_data.members import Member, open_member, share_of, statistics_of
from jaxrl_data.mixture import Mixture, check_reach, making, measured_of
from jaxrl_data.order import Order, order, weights
from jaxrl_data.statistics import Statistics
from jaxrl_data.transforms.interface import Sample, Spec, Transform, apply
from jaxrl_data.transforms.keys import CUT, HELD_OUT, ROOM
from jaxrl_data.transforms.window import GoalWindow, Window


class Fed(NamedTuple):
    """A set of a mixture with what its samples go through."""

    member: Member
    measured: Measured  # what its statistics are of
    cameras: tuple[str, ...]  # that its samples have room for
    window: Window | GoalWindow
    transforms: tuple[Transform, ...]


_RANDOM = threading.local()  # a generator of each thread: a new one asks the system for entropy first, which takes long


def random_of(seed: int, number: int) -> np.random.Generator:
    """What sample `number` draws from: the same whoever makes it, and when. Good until this thread asks for the next."""
    if not hasattr(_RANDOM, "generator"):
        _RANDOM.generator = np.random.Generator(np.random.Philox(0))
    generator: np.random.Generator = _RANDOM.generator
    key = np.array([seed % 2**64, number % 2**64], np.uint64)
    begun = {"counter": np.zeros(4, np.uint64), "key": key}
    generator.bit_generator.state = {
        "bit_generator": "Philox",
        "state": begun,
        "buffer": np.zeros(4, np.uint64),
        "buffer_pos": 4,  # nothing of it is left
        "has_uint32": 0,
        "uinteger": 0,
    }
    return generator


def note(bad: dict[str, str], episode: str, reason: str) -> None:
    """Keeps that an episode is left out, and warns of it the first time; of two threads that find it at once, perhaps both do."""
    if episode not in bad:
        bad[episode] = reason
        warnings.warn(f"{episode}: left out, because {reason}", stacklevel=3)


def begun(
    window: Window | GoalWindow, episode: Episode, step: int, random: np.random.Generator, config: Mixture, room: Mapping[str, np.ndarray]
) -> Sample:
    """The sample of a step, before its transforms: with its row of the batch, and, of held out episodes, a mark that nothing is made up."""
    sample = window(episode, step, random)
    sample[ROOM] = room
    if config.part == "validation":
        sample[HELD_OUT] = True
    return sample


class Samples:
    """A mixture, opened; made by `open_mixture`. Thread-safe."""

    def __init__(
        self,
        config: Mixture,
        fed: Mapping[str, Fed],
        drawn: Order,
        spec: Spec,
        statistics: Mapping[str, Statistics],
        bad: Mapping[str, str],
    ) -> None:
        self.config, self.fed, self.order, self.spec, self.statistics = config, dict(fed), drawn, spec, dict(statistics)
        self._list = tuple(self.fed.values())
        items = [one.member.items for one in self._list]
        self.kept_bytes = kept_bytes(config, spec, items)
        self._kept = [KeptSamples(spec, number) for number in items] if self.kept_bytes else []
        self.bad = dict(bad)  # episodes that could not be used, with the reason
        self.cut = 0  # samples made by this process whose instruction was cut off

    def sample(self, number: int, of: int, item: int, room: Mapping[str, np.ndarray]) -> Sample:
        """Sample `number`, which is an item of a set; what its images can be written into is its `room`.

        A bad one raises ValueError, or is told of and the set's next item taken instead.
        """
        one, reason = self._list[of], ""
        member = one.member
        for other in range(member.items):
            number_of, place = member.at((item + other) % member.items)
            random = random_of(self.config.seed, number)
            try:
                episode = member.episode(number_of)
                sample = begun(one.window, episode, member.step(episode, place), random, self.config, room)
                made = apply(one.transforms, sample, random)
                self.cut += CUT in made
                return made
            except ValueError as error:
                if not self.config.quarantine:
                    raise
                reason = str(error)
                note(self.bad, f"{member.store.name}, episode {number_of}", reason)
        raise ValueError(f"{member.store.name}: none of its {member.items} steps can be used; the last: {reason}")

    def _fill(self, batch: Mapping[str, np.ndarray], rows: Sequence[int], of: int, row: int, item: int) -> None:
        fill(batch, row, partial(self.sample, rows[row], of, item))

    @property
    def rates(self) -> set[float]:
        """[Hz] of the sets."""
        return {one.member.features.rate for one in self.fed.values()}

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """The samples of these numbers, in a row, as one tree of arrays: `observation`, `present`, `action`, `mask`.

        Arrays are [B, history, ...], or [B, ...] where the history is one; texts that are no tokens stay behind.
        """
        draws = self.order.draws(rows[0], len(rows))
        batch = room_for(self.spec, len(rows))
        if not self._kept:
            for row, drawn in enumerate(zip(rows, draws.of.tolist(), draws.item.tolist(), strict=True)):
                fill(batch, row, partial(self.sample, *drawn))
        for of, kept in enumerate(self._kept):
            own = np.flatnonzero(draws.of == of)
            kept.fill(batch, own, draws.item[own], partial(self._fill, batch, rows, of))
        return nested(batch, self.config.history)


_BUFFERS = Buffers()  # of this process


def room_for(spec: Spec, rows: int) -> dict[str, np.ndarray]:
    """{name: [rows, ...]}, which is to be filled."""
    return {name: _BUFFERS.empty((rows, *map(int, one.shape)), one.dtype) for name, one in spec.items()}


def fill(batch: Mapping[str, np.ndarray], row: int, sample: Callable[[Mapping[str, np.ndarray]], Sample]) -> None:
    """One row of a batch, with the sample that is made for the room there.

    Raises ValueError where an entry is not what its set told.
    """
    room = {name: array[row] for name, array in batch.items() if array.ndim > 3}  # images: what is smaller is as soon copied
    found = sample(room)
    for name, array in batch.items():
        value = found[name]
        if value is not room.get(name):
            if np.shape(value) != array.shape[1:]:
                raise ValueError(f"{found['name']}: {name} has the shape {np.shape(value)}, but its set told {array.shape[1:]}")
            array[row] = value


def over_time(name: str) -> bool:
    """Whether an entry of a sample has an axis of the history."""
    seen = name.startswith(("observation/state/", "observation/image/", "observation/depth/", "present/"))
    return seen and not name.endswith("_dimensions")


def nested(flat: Mapping[str, Any], history: int) -> dict[str, Any]:
    """The flat names of samples [B, ...] as a batch; a history of one is no axis."""
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        kind, _, rest = name.partition("/")
        if rest:
            tree.setdefault(kind, {})[rest] = array[:, 0] if history == 1 and over_time(name) else array
        else:
            tree[kind] = array
    return tree


def open_mixture(config: Mixture, statistics: Callable[[str, Member], Statistics] | None = None) -> Samples:
    """The mixture, opened. Reads no episode, but each set once where statistics are needed and not kept beside it yet.

    Raises:
        ValueError: a set cannot be opened, all episodes are shorter than a chunk, sets do not fit together: the message names set and
            dimension.
    """
    members = {name: open_member(one, config.part, config.validation) for name, one in config.sets.items()}
    check_reach(config, max(int(one.lengths.max()) for one in members.values()))
    sizes = weights({name: float(member.items) for name, member in members.items()}, config.temperature)
    shares = {name: share_of(member, config.sets[name].weight * sizes[name]) for name, member in members.items()}
    measured = {name: measured_of(config, one) for name, one in config.sets.items()}
    bad: dict[str, str] = {}
    told = partial(note, bad) if config.quarantine else None
    known = statistics or (lambda name, member: statistics_of(member, config.validation, measured[name], told))
    held = {name: known(name, member) for name, member in members.items()} if config.normalise else {}
    made = making(config, members, held)
    fed = {name: Fed(member, measured[name], made.cameras, made.window, made.transforms[name]) for name, member in members.items()}
    return Samples(config, fed, order(shares, config.seed), made.spec, held, bad)
