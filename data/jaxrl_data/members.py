"""One data set of a mixture, opened: which of its steps may be drawn, and the sample of each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl_data.cache.store import Store, open_store
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import Episode, Features
from jaxrl_data.standardise import oxe
from jaxrl_data.standardise.standard import features as standard_features
from jaxrl_data.standardise.standard import standardiser
from jaxrl_data.statistics import Statistics, load, save, statistics, summarise
from jaxrl_data.transforms.interface import definition

Part = Literal["train", "validation", "all"]


@dataclass(frozen=True)
class Set:
    """A prepared data set, `path`, its weight in the mixture, and what its columns mean.

    Either `standard` names its row in the table of Open X-Embodiment, or `columns` says which column each house name is:
    {"state/joints": "observation.state", "action": "action", "image/high": "observation.images.cam_high", "task/instruction": "task"}.
    """

    path: str
    weight: float = 1.0
    standard: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.standard) == bool(self.columns):
            raise ValueError(f"{self.path}: give either the name of its standard or its columns, and not both")


@dataclass(frozen=True)
class Columns:
    """House names for the columns of a file, which stay as they are."""

    columns: Mapping[str, str]

    def __call__(self, episode: Episode) -> Episode:
        """The columns that are named."""

        def named(table: Mapping[str, Any]) -> dict[str, Any]:
            return {own: table[name] for own, name in self.columns.items() if name in table}

        return episode._replace(arrays=named(episode.arrays), images=named(episode.images), texts=named(episode.texts))


class _Lazy(Sequence):
    """A column of which each entry is read when it is looked at."""

    def __init__(self, read: Callable[[int], Any], rows: range) -> None:
        self._read, self._rows = read, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Any: ...
    @overload
    def __getitem__(self, at: slice) -> "_Lazy": ...
    def __getitem__(self, at: int | slice) -> Any:
        return _Lazy(self._read, self._rows[at]) if isinstance(at, slice) else self._read(self._rows[at])


class Member(NamedTuple):
    """A set of a mixture."""

    store: Store
    features: Features  # standardised
    items: int  # steps that may be drawn
    at: Callable[[int], tuple[int, int]]  # item -> episode, step
    episode: Callable[[int], Episode]  # standardised; its images are read when they are looked at
    lengths: np.ndarray  # [E] standardised
    chosen: np.ndarray  # [n] the episodes of this part
    definition: str  # of what standardises it
    normalised: tuple[bool, ...]  # which dimensions of the action normalisation is for; () for all
    bgr: tuple[str, ...]  # cameras that are stored blue first
    folder: Path


def held_out(hashes: np.ndarray, share: float) -> np.ndarray:
    """[E] bool: the episodes kept for validation, by their contents alone, so that copies of one go the same way."""
    first = np.ascontiguousarray(hashes[:, :8]).view("<u8")[:, 0]
    return first < np.uint64(min(int(share * 2.0**64), 2**64 - 1))


class Meaning(NamedTuple):
    """What the columns of a set mean."""

    standardise: Callable[[Episode], Episode]
    features: Features  # of what comes out
    needed: tuple[str, ...]  # arrays that it is made of
    dropped: tuple[int, int]  # steps at both ends
    definition: str  # a hash of it
    normalised: tuple[bool, ...]  # which dimensions of the action normalisation is for; () for all
    bgr: tuple[str, ...]  # cameras that are stored blue first


def meaning(one: Set, raw: Features) -> Meaning:
    """Of a set with the columns `raw`. Raises ValueError: a column or standard is not known, or nothing is named action."""
    if one.standard:
        row = oxe.standard(one.standard)
        needed = tuple(name for name in row.raw if name in raw.arrays)
        ends = (row.drop_first, row.drop_last)
        return Meaning(standardiser(row), standard_features(row, raw), needed, ends, definition((row,)), row.normalised, row.bgr)
    known = raw.names
    for own, name in one.columns.items():
        if name not in known:
            raise ValueError(f"{one.path}: {own} is to be the column {name}, which is not there; {suggestion(name, known)}")
    if "action" not in one.columns:
        raise ValueError(f"{one.path}: columns name no action; add one, such as {{'action': {known[0]!r}}}")
    found = Features(
        {own: raw.arrays[name] for own, name in one.columns.items() if name in raw.arrays},
        {own: raw.images[name] for own, name in one.columns.items() if name in raw.images},
        tuple(own for own, name in one.columns.items() if name in raw.texts),
        raw.rate,
    )
    needed = tuple(name for name in one.columns.values() if name in raw.arrays)
    return Meaning(Columns(one.columns), found, needed, (0, 0), definition((Columns(dict(one.columns)),)), (), ())


def open_member(one: Set, part: Part = "train", validation: float = 0.0) -> Member:
    """The set, opened. Reads no episode.

    Raises:
        FileNotFoundError: there is no cache.
        ValueError: a column or standard is not known, an episode is too short, or there is nothing to draw.
    """
    store = open_store(one.path)
    standardise, features, needed, (before, behind), told, normalised, bgr = meaning(one, store.features)
    lengths = store.lengths.astype(np.int64) - before - behind
    if (lengths < 1).any():
        short = int(np.argmin(lengths))
        raise ValueError(f"{one.path}: episode {short} has {store.lengths[short]} steps, of which {one.standard} drops {before + behind}")
    out = held_out(store.hashes, validation)
    chosen = np.flatnonzero({"train": ~out, "validation": out, "all": np.ones_like(out)}[part])
    if not chosen.size:
        raise ValueError(f"{one.path}: no episode is left for {part}; a share of {validation} of {len(out)} episodes is held out")
    ends = np.cumsum(lengths[chosen])

    def at(item: int) -> tuple[int, int]:
        row = int(np.searchsorted(ends, item, side="right"))
        return int(chosen[row]), int(item - (ends[row - 1] if row else 0))

    def episode(number: int) -> Episode:
        steps = range(int(store.lengths[number]))
        images = {
            name: _Lazy(lambda step, name=name: store.images(number, name, [step])[0], steps)  # type: ignore[misc]
            for name in store.features.images
        }
        texts = {
            name: _Lazy(lambda step, name=name: store.texts(number, name, [step])[0], steps)  # type: ignore[misc]
            for name in store.features.texts
        }
        return standardise(Episode(f"{store.name}, episode {number}", store.arrays(number, needed), images, texts))  # type: ignore[arg-type]

    return Member(store, features, int(ends[-1]), at, episode, lengths, chosen, told, normalised, bgr, Path(one.path))


def statistics_file(member: Member, validation: float) -> Path:
    """Where the statistics of a set's train part are kept."""
    return member.folder / f"statistics-{member.definition}-{validation:g}.json"


def statistics_of(member: Member, validation: float = 0.0) -> Statistics:
    """Of all arrays of the set's train part, standardised: read once, and kept beside the cache.

    They are found again by the contents of the data and the definition of what was done to them, not by a path.
    """
    path = statistics_file(member, validation)
    if path.exists():
        held = load(str(path))
        if held.fingerprint == member.store.fingerprint:
            return held
    found = compute_statistics(member, validation)
    save(str(path), found)
    return found


def compute_statistics(member: Member, validation: float = 0.0) -> Statistics:
    """Of all arrays of the episodes that are not held out, whatever part of the set this is; one pass that reads no image."""
    train = np.flatnonzero(~held_out(member.store.hashes, validation))
    if not train.size:
        raise ValueError(f"{member.folder}: no episode is left to compute statistics of; validation is {validation}")

    def read(first: int, last: int) -> Iterator[Episode]:
        for number in train[first:last]:
            yield member.episode(int(number))

    dataset = Dataset(member.store.name, member.store.split, member.store.features, len(train), read, member.store.fingerprint)
    specs = {name: spec for name, spec in member.features.arrays.items() if spec.dtype.startswith("float")}
    key = f"{member.definition}-{validation:g}"
    return statistics(summarise(dataset, lambda one: {n: one.arrays[n] for n in specs}, key, specs=specs))
