"""One data set of a mixture that is read from where it lies: what its columns mean, its blocks, and the episodes of each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxrl.ops.held_out import held_out
from jaxrl_data.cache.shard import LeftOut, content_hash, usable
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, Features, length
from jaxrl_data.members import Meaning, Part, Set, finite, meaning
from jaxrl_data.open import open_apart, splits
from jaxrl_data.selection import steps_of
from jaxrl_data.streaming.lanes import cut

_TOLD_BY = 4  # episodes that are tried for the size of one


@dataclass(frozen=True)
class Streamed(Set):
    """A data set as it lies at `path`, in any format that is read here; `split` is train, or the first there is, unless it is named.

    `block` episodes that follow each other are read at a time: more of them are read faster and mixed less well. `statistics` is a file of
    `jaxrl data stats`, which normalising needs. A set that lies in the order of its files cannot be drawn from `by` anything.
    """

    split: str = ""
    block: int = 8
    statistics: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block < 1:
            raise ValueError(f"{self.path}: block is {self.block}, but holds at least one episode")
        if self.by is not None:
            raise ValueError(f"{self.path}: by needs a cache, which knows where each part lies; `jaxrl data prepare` makes one")


class Block(NamedTuple):
    """Episodes in memory, images encoded. One without steps holds nothing that may be drawn."""

    episodes: tuple[Episode, ...]  # standardised
    kept: tuple[np.ndarray | None, ...]  # of each the steps that may be drawn, None for all
    ends: np.ndarray  # [episodes] int64 of those steps, up to the end of each
    size: int  # bytes

    @property
    def steps(self) -> int:
        """That can be drawn."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def at(self, item: int) -> tuple[Episode, int]:
        """An episode, and the step there."""
        row = int(np.searchsorted(self.ends, item, side="right"))
        place, kept = int(item - (self.ends[row - 1] if row else 0)), self.kept[row]
        return self.episodes[row], place if kept is None else int(kept[place])


class Stream(NamedTuple):
    """A set of a mixture. `features`, `normalised` and `bgr` are those of its `meaning`."""

    given: Streamed
    dataset: Dataset
    meaning: Meaning
    edges: np.ndarray  # [blocks + 1] episodes

    @property
    def features(self) -> Features:
        """Standardised."""
        return self.meaning.features

    @property
    def normalised(self) -> tuple[bool, ...]:
        """Which dimensions of the action normalisation is for."""
        return self.meaning.normalised

    @property
    def bgr(self) -> tuple[str, ...]:
        """Cameras that are stored blue first."""
        return self.meaning.bgr

    @property
    def blocks(self) -> int:
        """How many there are."""
        return len(self.edges) - 1


class Opened(NamedTuple):
    """The sets of a mixture."""

    streams: dict[str, Stream]
    close: Callable[[], None]


class Choice(NamedTuple):
    """What of the episodes is kept."""

    part: Part = "all"
    validation: float = 0.0  # share of the episodes that is held out
    cameras: tuple[str, ...] = ()  # none named: all
    quarantine: bool = False

    def wants(self, column: str) -> bool:
        """Whether a standardised column goes into samples."""
        kind, _, name = column.partition("/")
        return kind not in ("image", "depth") or not self.cameras or name in self.cameras


def _split(one: Streamed) -> str | None:
    return one.split or ("train" if "train" in splits(one.path) else None)


def open_streams(sets: dict[str, Streamed]) -> Opened:
    """The sets, opened together. Reads no episode.

    Raises:
        FileNotFoundError: there is nothing at a path.
        ValueError: a format, split, column or standard is not known, or there is nothing to draw.
    """
    apart = open_apart({name: (one.path, _split(one)) for name, one in sets.items()})
    streams = {}
    for name, one in sets.items():
        dataset = apart.datasets[name]
        if not dataset.size:
            raise ValueError(f"{one.path}: split {dataset.split} has no episodes")
        streams[name] = Stream(one, dataset, meaning(one, dataset.features), cut(dataset.size, one.block, dataset.files))
    return Opened(streams, apart.close)


def chosen(episodes: Iterator[Episode], choice: Choice) -> Iterator[Episode]:
    """Those of the part that is wanted: by their contents, as of a cache of all their columns."""
    for episode in episodes:
        if choice.part != "all" and choice.validation:
            hashes = np.frombuffer(content_hash(episode), np.uint8)[None]
            if bool(held_out(hashes, choice.validation)[0]) != (choice.part == "validation"):
                continue
        yield episode


def _standardised(stream: Stream, raw: Episode, choice: Choice) -> Episode:
    found = finite(stream.meaning.standardise(raw))
    return found._replace(
        arrays={name: column for name, column in found.arrays.items() if choice.wants(name)},
        images={name: column for name, column in found.images.items() if choice.wants(name)},
    )


def _bytes(episode: Episode) -> int:
    arrays = sum(array.nbytes for array in episode.arrays.values())
    return arrays + sum(len(image) for column in episode.images.values() for image in column)


def read_episodes(stream: Stream, first: int, last: int, choice: Choice, note: Callable[[str, str], None]) -> Iterator[Episode]:
    """Of the episodes `first` to `last` - 1 those of the wanted part, standardised.

    Bad ones are told to `note` with the reason, if there is a quarantine, else raised as BadEpisode.
    """
    left_out = list[LeftOut]()
    for raw in chosen(usable(stream.dataset, first, last, choice.quarantine, left_out), choice):
        try:
            yield _standardised(stream, raw, choice)
        except ValueError as error:
            if not choice.quarantine:
                raise BadEpisode(first, f"{stream.given.path}: {error}") from error
            note(raw.name, str(error))
    for one in left_out:
        note(f"{stream.dataset.name}, {stream.dataset.split}, episode {one.episode}", one.reason)


def read_block(stream: Stream, place: int, choice: Choice, note: Callable[[str, str], None]) -> Block:
    """The episodes of a block that are of the wanted part. Bad ones are told to `note` with the reason, if there is a quarantine.

    Raises:
        BadEpisode: one cannot be used, and there is no quarantine.
    """
    found = list(read_episodes(stream, int(stream.edges[place]), int(stream.edges[place + 1]), choice, note))
    kept = tuple(steps_of(one, stream.given.idle) for one in found)
    counts = [length(one) if steps is None else len(steps) for one, steps in zip(found, kept, strict=True)]
    return Block(tuple(found), kept, np.cumsum(counts, dtype=np.int64), sum(map(_bytes, found)))


def episode_bytes(stream: Stream, choice: Choice) -> int:
    """Of the first episode that can be used, as it lies in memory. Raises BadEpisode or ValueError where none of the first can be."""
    last = min(stream.dataset.size, _TOLD_BY)
    for number in range(last):
        try:
            (found,) = [_bytes(_standardised(stream, raw, choice)) for raw in stream.dataset.read(number, number + 1)]
            return found
        except ValueError:
            if not choice.quarantine:
                raise
    raise ValueError(f"{stream.given.path}: none of the first {last} episodes can be used")
