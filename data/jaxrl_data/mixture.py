"""Samples of a mixture by their numbers: what stands between a number and a row of a batch. Nothing here remembers what was drawn."""

import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from jaxrl.types import ArraySpec
from jaxrl_data.buffers import Buffers
from jaxrl_data.embodiments import Embodiment, Space, embodiment, space, unitless
from jaxrl_data.episode import Features
from jaxrl_data.members import Member, Part, Set, open_member, statistics_of
from jaxrl_data.order import Order, Share, order, weights
from jaxrl_data.statistics import Column, Statistics
from jaxrl_data.statistics import ranges as ranges_of
from jaxrl_data.transforms.augment import ColourJitter, Crop
from jaxrl_data.transforms.images import Decode, Resize
from jaxrl_data.transforms.interface import Sample, Spec, Transform, apply, spec_after
from jaxrl_data.transforms.keys import ACTION, ROOM
from jaxrl_data.transforms.normalise import Normalise
from jaxrl_data.transforms.place import Place, PlaceStates
from jaxrl_data.transforms.window import Window

FLOOR = 1e-2  # of a range that is mapped to [-1, 1], in the unit of its dimension


@dataclass(frozen=True)
class Images:
    """`size` of the images in a batch, square; with `pad` their proportions are kept. `crop` and `jitter` change them at random."""

    size: int = 224
    pad: bool = True
    cameras: tuple[str, ...] = ()  # none named: those that all sets have
    crop: float = 1.0  # share of the area
    jitter: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"images.size is {self.size}, but must be at least 1")
        if not 0 < self.crop <= 1:
            raise ValueError(f"images.crop is {self.crop}, but must be above 0 and at most 1")


@dataclass(frozen=True)
class Mixture:
    """What is drawn, and what a sample is made of. `temperature` flattens the sizes of sets, which their weights multiply: 1 draws each
    step alike, 2 by square roots, infinity by the weights alone.

    `normalise` maps state and action of each set to [-1, 1] by its own statistics ("quantile", "bounds") or to deviation 1 ("z_score");
    "" leaves them in their units, which several sets need to have in common.
    """

    sets: Mapping[str, Set] = field(default_factory=dict)
    temperature: float = 1.0
    history: int = 1
    horizon: int = 1
    history_stride: int = 1
    action_stride: int = 1
    images: Images = field(default_factory=Images)
    normalise: Literal["", "z_score", "bounds", "quantile"] = ""
    validation: float = 0.0  # share of the episodes that is held out
    part: Part = "train"
    seed: int = 0
    quarantine: bool = False

    def __post_init__(self) -> None:
        if not self.sets:
            raise ValueError("sets: empty; name at least one data set")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation is {self.validation}, but must be at least 0 and below 1")


class Fed(NamedTuple):
    """A set of a mixture with what its samples go through."""

    member: Member
    window: Window
    transforms: tuple[Transform, ...]


class Told(Protocol):
    """What of a set decides what its samples go through, wherever its episodes come from."""

    @property
    def features(self) -> Features: ...  # standardised
    @property
    def normalised(self) -> tuple[bool, ...]: ...  # which dimensions of the action normalisation is for; () for all
    @property
    def bgr(self) -> tuple[str, ...]: ...  # cameras that are stored blue first


class Making(NamedTuple):
    """What the samples of a mixture go through, and what they are then."""

    window: Window
    transforms: dict[str, tuple[Transform, ...]]  # of each set
    spec: Spec


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


class Samples:
    """A mixture, opened; made by `open_mixture`. Thread-safe."""

    def __init__(self, config: Mixture, fed: Mapping[str, Fed], drawn: Order, spec: Spec, statistics: Mapping[str, Statistics]) -> None:
        self.config, self.fed, self.order, self.spec, self.statistics = config, dict(fed), drawn, spec, dict(statistics)
        self._list = tuple(self.fed.values())
        self.bad: dict[str, str] = {}  # episodes that could not be used, with the reason

    def sample(self, number: int, of: int, item: int, room: Mapping[str, np.ndarray]) -> Sample:
        """Sample `number`, which is an item of a set; what it can be written into is its `room`.

        A bad one raises ValueError, or is told of and the set's next item taken instead.
        """
        member, window, transforms = self._list[of]
        reason = ""
        for other in range(member.items):
            episode, step = member.at((item + other) % member.items)
            random = random_of(self.config.seed, number)
            try:
                return apply(transforms, {**window(member.episode(episode), step, random), ROOM: room}, random)
            except ValueError as error:
                if not self.config.quarantine:
                    raise
                reason = str(error)
                note(self.bad, f"{member.store.name}, episode {episode}", reason)
        raise ValueError(f"{member.store.name}: none of its {member.items} steps can be used; the last: {reason}")

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
        for row, drawn in enumerate(zip(rows, draws.of.tolist(), draws.item.tolist(), strict=True)):
            fill(batch, row, partial(self.sample, *drawn))
        return nested(batch, self.config.history)


_BUFFERS = Buffers()  # of this process


def room_for(spec: Spec, rows: int) -> dict[str, np.ndarray]:
    """{name: [rows, ...]}, which is to be filled."""
    return {name: _BUFFERS.empty((rows, *map(int, one.shape)), one.dtype) for name, one in spec.items()}


def fill(batch: Mapping[str, np.ndarray], row: int, sample: Callable[[Mapping[str, np.ndarray]], Sample]) -> None:
    """One row of a batch, with the sample that is made for the room there.

    Raises ValueError where an entry is not what its set told.
    """
    room = {name: array[row, ...] for name, array in batch.items()}
    found = sample(room)
    for name, place in room.items():
        value = found[name]
        if value is not place:
            if np.shape(value) != place.shape:
                raise ValueError(f"{found['name']}: {name} has the shape {np.shape(value)}, but its set told {place.shape}")
            place[...] = value


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


def _states(member: Told) -> dict[str, ArraySpec]:
    return {name: spec for name, spec in member.features.arrays.items() if name.startswith("state/")}


def _robot(config: Mixture, name: str, spec: ArraySpec) -> Embodiment:
    """What an array tells, dimension by dimension; without units once it is normalised by its own data set."""
    found = embodiment(name, spec)
    return unitless(found) if config.normalise else found


class Spaces(NamedTuple):
    """Where the vectors of all sets meet; None where they are alike already."""

    action: Space | None
    state: Space | None


def _alike(specs: Iterable[Mapping[str, ArraySpec]]) -> bool:
    first, *others = [{name: (one.shape, one.names, one.unit) for name, one in table.items()} for table in specs]
    return all(one == first for one in others)


def _spaces(config: Mixture, members: Mapping[str, Told]) -> Spaces:
    """Raises ValueError that names the sets whose dimensions do not fit together."""
    actions = {name: {ACTION: member.features.arrays[ACTION]} for name, member in members.items()}
    states = {name: _states(member) for name, member in members.items()}

    def union(tables: Mapping[str, Mapping[str, ArraySpec]]) -> Space | None:
        if _alike(tables.values()):
            return None
        return space([_robot(config, f"{name}, {part}", spec) for name, table in tables.items() for part, spec in table.items()])

    return Spaces(union(actions), union(states))


def _normalised(config: Mixture, key: str, column: Column, changed: Sequence[bool]) -> Normalise:
    """Of the dimensions that are to be `changed`; the others stay as they are."""
    low, high, floored = ranges_of(column, FLOOR, config.normalise)
    if told := [name for name, one in zip(column.names, changed, strict=True) if one and name in floored]:
        warnings.warn(f"{key}: {', '.join(told)} hardly change; their range is widened to {FLOOR}", stacklevel=2)
    offset, scale = np.where(changed, (low + high) / 2, 0.0), np.where(changed, (high - low) / 2, 1.0)
    return Normalise(key, tuple(map(float, offset)), tuple(map(float, scale)))


def _cameras(config: Mixture, members: Mapping[str, Told]) -> tuple[str, ...]:
    if config.images.cameras:
        return config.images.cameras
    have = [{name.removeprefix("image/") for name in member.features.images} for member in members.values()]
    return tuple(sorted(set.intersection(*have)))


def open_mixture(config: Mixture, statistics: Callable[[str, Member], Statistics] | None = None) -> Samples:
    """The mixture, opened. Reads no episode, but each set once where statistics are needed and not kept beside it yet.

    Raises:
        ValueError: a set cannot be opened, sets do not fit together: the message names set and dimension.
    """
    members = {name: open_member(one, config.part, config.validation) for name, one in config.sets.items()}
    sizes = weights({name: float(member.items) for name, member in members.items()}, config.temperature)
    shares = {name: Share(member.items, config.sets[name].weight * sizes[name]) for name, member in members.items()}
    known = statistics or (lambda name, member: statistics_of(member, config.validation))
    held = {name: known(name, member) for name, member in members.items()} if config.normalise else {}
    window, transforms, spec = making(config, members, held)
    fed = {name: Fed(member, window, transforms[name]) for name, member in members.items()}
    return Samples(config, fed, order(shares, config.seed), spec, held)


def making(config: Mixture, members: Mapping[str, Told], held: Mapping[str, Statistics]) -> Making:
    """What samples of these sets go through; `held` are the statistics that they are normalised by.

    Raises ValueError that names the sets and dimensions that do not fit together.
    """
    cameras = _cameras(config, members)
    window = Window(config.history, config.horizon, config.history_stride, config.action_stride, cameras)
    spaces = _spaces(config, members)
    transforms = {name: _transforms(config, name, member, held.get(name), spaces) for name, member in members.items()}
    specs = {name: _arrays(spec_after(transforms[name], window.spec(member.features))) for name, member in members.items()}
    (first, spec), *others = specs.items()
    for other, told in others:
        _check_alike(first, spec, other, told)
    return Making(window, transforms, spec)


def _transforms(config: Mixture, name: str, member: Told, held: Statistics | None, spaces: Spaces) -> tuple[Transform, ...]:
    images, found = config.images, list[Transform]()
    if images.cameras or any(column.startswith("image/") for column in member.features.images):
        resize = Resize(images.size, images.size, images.pad)
        found += [Decode(member.bgr, resize), resize]
        found += [Crop(images.crop)] if images.crop < 1 and config.part == "train" else []
        found += [ColourJitter()] if images.jitter and config.part == "train" else []
    states = _states(member)
    for column in (*states, ACTION):
        if held is not None:
            key = column if column == ACTION else f"observation/{column}"
            width = len(held.columns[column].mean)
            changed = member.normalised if column == ACTION and member.normalised else (True,) * width
            found.append(_normalised(config, key, held.columns[column], changed))
    if spaces.state is not None:
        groups = ((column.removeprefix("state/"), _robot(config, f"{name}, {column}", spec)) for column, spec in states.items())
        found.append(PlaceStates(spaces.state, tuple(groups)))
    if spaces.action is not None:
        found.append(Place(spaces.action, _robot(config, f"{name}, {ACTION}", member.features.arrays[ACTION])))
    return tuple(found)


def _arrays(spec: Spec) -> Spec:
    """What of a sample goes into batches, in one order."""
    return {name: one for name, one in sorted(spec.items()) if one.dtype not in ("str", "bytes")}


def _check_alike(first: str, spec: Spec, other: str, told: Spec) -> None:
    """Raises ValueError that names what two sets do not have in common."""
    for name in sorted({*spec, *told}):
        one, two = spec.get(name), told.get(name)
        if one is None or two is None or (one.shape, one.dtype) != (two.shape, two.dtype):
            show = [f"{one.dtype} {one.shape}" if one else "nothing" for one in (one, two)]
            raise ValueError(f"the samples of {first} and {other} differ: {name} is {show[0]} in one and {show[1]} in the other")
