"""One data set of a mixture, opened: which of its steps may be drawn, and the sample of each."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from jaxrl.ops.held_out import held_out
from jaxrl.ops.suggestion import suggestion
from jaxrl.types import ArraySpec
from jaxrl_data.cache.store import Store, open_store
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import Episode, Features
from jaxrl_data.measured import Measured, rows, specs
from jaxrl_data.order import Share, weights
from jaxrl_data.placing import keep
from jaxrl_data.selection import By, selection, steps_of
from jaxrl_data.standardise import oxe
from jaxrl_data.standardise.standard import features as standard_features
from jaxrl_data.standardise.standard import standardiser
from jaxrl_data.statistics import Statistics, load, statistics, summarise, to_bytes
from jaxrl_data.transforms.interface import Transform, definition
from jaxrl_data.transforms.keys import ACTION
from jaxrl_data.transforms.named import NUMBERS, named
from jaxrl_data.transforms.window import IdleFilter

Part = Literal["train", "validation", "all"]
WHOLE = Measured()  # all columns as they are
Note = Callable[[str, str], None]  # is told of an episode that is left out, and why


@dataclass(frozen=True)
class Set:
    """A prepared data set, `path`, its weight in the mixture, and what its columns mean.

    Either `standard` names its row in the table of Open X-Embodiment, or `columns` says which column each house name is:
    {"state/joints": "observation.state", "action": "action", "image/high": "observation.images.cam_high", "task/instruction": "task"}.

    `transforms` change states and actions (`transforms.named.NUMBERS`), such as {"name": "delta_action", "state": ..., "pairs": ...},
    and come before what normalises. `idle` leaves out steps at which the robot stands; `by` draws tasks or robots as sets of their own.
    """

    path: str
    weight: float = 1.0
    standard: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    transforms: tuple[dict[str, Any], ...] = ()
    idle: IdleFilter | None = None
    by: By | None = None

    def __post_init__(self) -> None:
        if bool(self.standard) == bool(self.columns):
            raise ValueError(f"{self.path}: give either the name of its standard or its columns, and not both")
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"{self.path}: weight is {self.weight}, but must be above 0 and finite; leave out a set that is not wanted")
        self.numbers()

    def numbers(self) -> tuple[Transform, ...]:
        """The transforms of states and actions. Raises ValueError where one is not known or refuses its fields."""
        return named(self.transforms, NUMBERS, f"{self.path}: transforms")


def _is_vector(own: str) -> bool:
    """Whether a column holds the numbers of states and actions."""
    return own == ACTION or own.startswith("state/")


def _as_vectors(array: np.ndarray) -> np.ndarray:
    """[T, n], of floats."""
    array = array.astype(np.float32) if array.dtype.kind in "biu" else array
    return array if array.ndim == 2 else array.reshape(len(array), -1)


def _of_vectors(spec: ArraySpec) -> ArraySpec:
    """What `_as_vectors` makes of a column."""
    spec = replace(spec, dtype="float32") if np.dtype(spec.dtype).kind in "biu" else spec
    return spec if len(spec.shape) == 1 else replace(spec, shape=(math.prod(map(int, spec.shape)),), names=())


@dataclass(frozen=True)
class Columns:
    """House names for the columns of a file. Integers and flags of states and actions become float32, and states of one number, or of
    several axes such as points, vectors; all else stays as it is.
    """

    columns: Mapping[str, str]

    def __call__(self, episode: Episode) -> Episode:
        """The columns that are named."""

        def named(table: Mapping[str, Any]) -> dict[str, Any]:
            return {own: table[name] for own, name in self.columns.items() if name in table}

        arrays = {own: _as_vectors(array) if _is_vector(own) else array for own, array in named(episode.arrays).items()}
        return episode._replace(arrays=arrays, images=named(episode.images), texts=named(episode.texts))

    def features(self, raw: Features) -> Features:
        """Of what comes out."""
        arrays = {own: raw.arrays[name] for own, name in self.columns.items() if name in raw.arrays}
        return Features(
            {own: _of_vectors(spec) if _is_vector(own) else spec for own, spec in arrays.items()},
            {own: raw.images[name] for own, name in self.columns.items() if name in raw.images},
            tuple(own for own, name in self.columns.items() if name in raw.texts),
            raw.rate,
        )


def finite(episode: Episode) -> Episode:
    """The episode. Raises ValueError that names column, step and dimension of a state or an action that is not finite."""
    for name, array in episode.arrays.items():
        if _is_vector(name) and not np.isfinite(array).all():
            step, *place = np.argwhere(~np.isfinite(array))[0].tolist()
            raise ValueError(
                f"{episode.name}: {name} is {array[(step, *place)]} in dimension {', '.join(map(str, place))} of step {step}; "
                "`jaxrl data validate` finds all such steps, `quarantine` leaves the episode out"
            )
    return episode


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
    given: Set
    features: Features  # standardised
    items: int  # steps that may be drawn
    parts: dict[str, int]  # of the items, those of each part, one after the other; none where the set is drawn as a whole
    at: Callable[[int], tuple[int, int]]  # item -> episode, and the place of the step among those of it that may be drawn
    step: Callable[[Episode, int], int]  # a place -> the step
    episode: Callable[[int], Episode]  # standardised; its images are read when they are looked at; ValueError: it is bad
    lengths: np.ndarray  # [E] standardised
    chosen: np.ndarray  # [n] the episodes that are drawn from
    definition: str  # of what standardises it
    normalised: tuple[bool, ...]  # which dimensions of the action normalisation is for; () for all
    bgr: tuple[str, ...]  # cameras that are stored blue first
    folder: Path


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
        such = f", such as {{'action': {next(iter(raw.arrays))!r}}}" if raw.arrays else ", of which this set has none"
        raise ValueError(f"{one.path}: columns name no action; add an array{such}")
    _check_kinds(one, raw)
    named = Columns(dict(one.columns))
    needed = tuple(name for name in one.columns.values() if name in raw.arrays)
    return Meaning(named, named.features(raw), needed, (0, 0), definition((named,)), (), ())


_KINDS = {"action": ("array",), "state": ("array",), "image": ("image",), "depth": ("image", "array"), "task": ("text",)}


def _check_kinds(one: Set, raw: Features) -> None:
    """Raises ValueError where a house name is of no kind, or its column of another, or the action no vector."""
    table = {**dict.fromkeys(raw.arrays, "array"), **dict.fromkeys(raw.images, "image"), **dict.fromkeys(raw.texts, "text")}
    for own, name in one.columns.items():
        kind, _, rest = own.partition("/")
        if kind not in _KINDS or bool(rest) == (kind == "action"):
            raise ValueError(f"{one.path}: {own} is no name for a column; write action, state/..., image/..., depth/... or task/...")
        if table[name] not in _KINDS[kind]:
            raise ValueError(f"{one.path}: {own} is to be the column {name}, which holds {table[name]}s, and not {_KINDS[kind][0]}s")
    name = one.columns["action"]
    if len(raw.arrays[name].shape) != 1:
        raise ValueError(f"{one.path}: action is to be the column {name} of the shape {raw.arrays[name].shape}, but must be a vector")


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

    def standardised(number: int) -> Episode:
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

    folder = Path(one.path)
    counts, of_part, parts = selection(folder, store.fingerprint, told, lengths, standardised, one.idle, one.by)
    chosen = chosen[counts[chosen] > 0]
    if not chosen.size:
        raise ValueError(f"{one.path}: no step is left for {part}; all of its episodes stand still by the measure of `idle`")
    chosen = chosen[np.argsort(of_part[chosen], kind="stable")]
    ends = np.cumsum(counts[chosen])
    sizes = np.bincount(of_part[chosen], counts[chosen], len(parts)).astype(np.int64).tolist()

    def at(item: int) -> tuple[int, int]:
        row = int(np.searchsorted(ends, item, side="right"))
        return int(chosen[row]), int(item - (ends[row - 1] if row else 0))

    def step(episode: Episode, place: int) -> int:
        kept = steps_of(episode, one.idle)
        return place if kept is None else int(kept[place])

    return Member(
        store=store,
        given=one,
        features=features,
        items=int(ends[-1]),
        parts={name: size for name, size in zip(parts, sizes, strict=True) if size} if one.by else {},
        at=at,
        step=step,
        episode=lambda number: finite(standardised(number)),
        lengths=lengths,
        chosen=chosen,
        definition=told,
        normalised=normalised,
        bgr=bgr,
        folder=folder,
    )


def share_of(member: Member, weight: float) -> Share:
    """What is drawn of a set: its steps alike, or its parts by their own weights."""
    by = member.given.by
    if by is None:
        return Share(member.items, weight)
    shared = weights({name: float(size) for name, size in member.parts.items()}, by.temperature)
    return Share(member.items, weight, {name: Share(size, shared[name]) for name, size in member.parts.items()})


def _key(member: Member, measured: Measured, validation: float) -> str:
    """What of a set its statistics are of."""
    return "-".join(word for word in (member.definition, measured.definition, f"{validation:g}") if word)


def statistics_file(member: Member, validation: float, measured: Measured = WHOLE) -> Path:
    """Where the statistics of a set's train part are kept."""
    return member.folder / f"statistics-{_key(member, measured, validation)}.json"


def statistics_of(member: Member, validation: float = 0.0, measured: Measured = WHOLE, note: Note | None = None) -> Statistics:
    """Of all arrays of the set's train part, standardised: read once, and kept beside the cache.

    They are found again by the contents of the data and the definition of what was done to them, not by a path. Bad episodes are told to
    `note` and left out; without one, ValueError.
    """
    path = statistics_file(member, validation, measured)
    if path.exists():
        held = load(str(path))
        if held.fingerprint == member.store.fingerprint:
            return held
    found = compute_statistics(member, validation, measured, note)
    keep(path, to_bytes(found))
    return found


def compute_statistics(member: Member, validation: float = 0.0, measured: Measured = WHOLE, note: Note | None = None) -> Statistics:
    """Of all arrays of the episodes that are not held out, whatever part of the set this is; one pass that reads no image.

    Bad episodes are told to `note` and left out; without one, ValueError.
    """
    train = np.flatnonzero(~held_out(member.store.hashes, validation))
    if not train.size:
        raise ValueError(f"{member.folder}: no episode is left to compute statistics of; validation is {validation}")

    def read(first: int, last: int) -> Iterator[Episode]:
        for number in train[first:last].tolist():
            try:
                yield member.episode(number)
            except ValueError as error:
                if note is None:
                    raise
                note(f"{member.store.name}, episode {number}", str(error))

    dataset = Dataset(member.store.name, member.store.split, member.store.features, len(train), read, member.store.fingerprint)
    columns = specs(measured, member.features)
    return statistics(summarise(dataset, lambda one: rows(measured, one, columns), _key(member, measured, validation), specs=columns))
