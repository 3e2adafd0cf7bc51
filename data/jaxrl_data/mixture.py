"""Samples of a mixture by their numbers: what stands between a number and a row of a batch. Nothing here remembers what was drawn."""

import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxrl.types import ArraySpec
from jaxrl_data.embodiments import Embodiment, Space, embodiment, place, space, unitless
from jaxrl_data.members import Member, Part, Set, open_member, statistics_of
from jaxrl_data.order import Order, Share, order, weights
from jaxrl_data.statistics import Column, Statistics
from jaxrl_data.statistics import ranges as ranges_of
from jaxrl_data.transforms.augment import ColourJitter, Crop
from jaxrl_data.transforms.images import Decode, Resize
from jaxrl_data.transforms.interface import Sample, Spec, Transform, apply, spec_after
from jaxrl_data.transforms.keys import ACTION
from jaxrl_data.transforms.normalise import Normalise
from jaxrl_data.transforms.place import Place
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


@dataclass(frozen=True)
class PlaceState:
    """A group of the state in the space of all sets; one that a set has not is 0, and its presence too."""

    key: str
    space: Space
    embodiment: Embodiment | None
    history: int

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        """With the group."""
        present = self.key.replace("observation", "present", 1)
        if self.embodiment is None:
            return {
                **sample,
                self.key: np.zeros((self.history, len(self.space.dimensions)), np.float32),
                present: np.zeros(self.history, np.float32),
            }
        return {**sample, self.key: place(self.space, self.embodiment, sample[self.key])[0]}

    def inverse(self, sample: Sample) -> Sample:
        """Of no effect on an action."""
        return sample

    def spec(self, before: Spec) -> Spec:
        """With the group."""
        told = self.space.spec
        present = self.key.replace("observation", "present", 1)
        return {
            **before,
            self.key: ArraySpec((self.history, len(self.space.dimensions)), names=told.names, unit=told.unit),
            present: ArraySpec((self.history,)),
        }


class Fed(NamedTuple):
    """A set of a mixture with what its samples go through."""

    member: Member
    window: Window
    transforms: tuple[Transform, ...]


class Samples:
    """A mixture, opened; made by `open_mixture`. Thread-safe."""

    def __init__(self, config: Mixture, fed: Mapping[str, Fed], drawn: Order, spec: Spec, statistics: Mapping[str, Statistics]) -> None:
        self.config, self.fed, self.order, self.spec, self.statistics = config, dict(fed), drawn, spec, dict(statistics)
        self._list = tuple(self.fed.values())
        self._lock = threading.Lock()
        self.bad: dict[str, str] = {}  # episodes that could not be used, with the reason

    def sample(self, number: int, of: int, item: int) -> Sample:
        """Sample `number`, which is an item of a set. A bad one raises ValueError, or is told of and the set's next item taken instead."""
        member, window, transforms = self._list[of]
        reason = ""
        for other in range(member.items):
            episode, step = member.at((item + other) % member.items)
            random = np.random.Generator(np.random.Philox(key=np.array([self.config.seed % 2**64, number % 2**64], np.uint64)))
            try:
                return apply(transforms, window(member.episode(episode), step, random), random)
            except ValueError as error:
                if not self.config.quarantine:
                    raise
                reason = str(error)
                self._note(f"{member.store.name}, episode {episode}", reason)
        raise ValueError(f"{member.store.name}: none of its {member.items} steps can be used; the last: {reason}")

    def _note(self, episode: str, reason: str) -> None:
        with self._lock:
            if episode in self.bad:
                return
            self.bad[episode] = reason
        warnings.warn(f"{episode}: left out, because {reason}", stacklevel=3)

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """The samples of these numbers, in a row, as one tree of arrays: `observation`, `present`, `action`, `mask`.

        Arrays are [B, history, ...], or [B, ...] where the history is one; texts that are no tokens stay behind.
        """
        draws = self.order.draws(rows[0], len(rows))
        samples = [self.sample(*one) for one in zip(rows, draws.of.tolist(), draws.item.tolist(), strict=True)]
        flat = {name: np.stack([sample[name] for sample in samples]) for name in self.spec}
        return nested(flat, self.config.history)


def nested(flat: Mapping[str, Any], history: int) -> dict[str, Any]:
    """The flat names of samples [B, ...] as a batch."""
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        kind, _, rest = name.partition("/")
        if not rest:
            tree[kind] = array
            continue
        over_time = name.startswith(("observation/state/", "observation/image/", "observation/depth/", "present/"))
        tree.setdefault(kind, {})[rest] = array[:, 0] if over_time and history == 1 else array
    return tree


def _groups(members: Mapping[str, Member]) -> list[str]:
    """The state groups of all sets."""
    names = (name for member in members.values() for name in member.features.arrays if name.startswith("state/"))
    return list(dict.fromkeys(names))


def _unified(config: Mixture, members: Mapping[str, Member], name: str) -> tuple[Space | None, dict[str, Embodiment | None]]:
    """The space in which all sets' arrays of this name meet, and each set's own dimensions; no space where they are all alike."""
    specs = {one: member.features.arrays.get(name) for one, member in members.items()}
    told = [spec for spec in specs.values() if spec is not None]
    if len(told) == len(specs) and all((one.shape, one.names, one.unit) == (told[0].shape, told[0].names, told[0].unit) for one in told):
        return None, dict.fromkeys(specs)
    own = {one: None if spec is None else embodiment(f"{one}, {name}", spec) for one, spec in specs.items()}
    if config.normalise:
        own = {one: robot and unitless(robot) for one, robot in own.items()}
    return space([robot for robot in own.values() if robot is not None]), own


def _normalised(config: Mixture, key: str, column: Column, changed: Sequence[bool]) -> Normalise:
    """Of the dimensions that are to be `changed`; the others stay as they are."""
    low, high, floored = ranges_of(column, FLOOR, config.normalise)
    if told := [name for name, one in zip(column.names, changed, strict=True) if one and name in floored]:
        warnings.warn(f"{key}: {', '.join(told)} hardly change; their range is widened to {FLOOR}", stacklevel=2)
    offset, scale = np.where(changed, (low + high) / 2, 0.0), np.where(changed, (high - low) / 2, 1.0)
    return Normalise(key, tuple(map(float, offset)), tuple(map(float, scale)))


def _cameras(config: Mixture, members: Mapping[str, Member]) -> tuple[str, ...]:
    if config.images.cameras:
        return config.images.cameras
    have = [{name.removeprefix("image/") for name in member.features.images} for member in members.values()]
    return tuple(sorted(set.intersection(*have)))


def open_mixture(config: Mixture) -> Samples:
    """The mixture, opened. Reads no episode, but each set once where statistics are needed and not kept beside it yet.

    Raises:
        ValueError: a set cannot be opened, sets do not fit together: the message names set and dimension.
    """
    members = {name: open_member(one, config.part, config.validation) for name, one in config.sets.items()}
    sizes = weights({name: float(member.items) for name, member in members.items()}, config.temperature)
    shares = {name: Share(member.items, config.sets[name].weight * sizes[name]) for name, member in members.items()}
    cameras = _cameras(config, members)
    window = Window(config.history, config.horizon, config.history_stride, config.action_stride, cameras)
    held = {name: statistics_of(member, config.validation) for name, member in members.items()} if config.normalise else {}
    where = {name: _unified(config, members, name) for name in (*_groups(members), ACTION)}
    fed = {name: Fed(member, window, _transforms(config, name, member, held.get(name), where)) for name, member in members.items()}
    specs = {name: _arrays(spec_after(one.transforms, window.spec(one.member.features))) for name, one in fed.items()}
    (first, spec), *others = specs.items()
    for other, told in others:
        _check_alike(first, spec, other, told)
    return Samples(config, fed, order(shares, config.seed), spec, held)


_Unified = tuple[Space | None, dict[str, Embodiment | None]]


def _transforms(
    config: Mixture, name: str, member: Member, held: Statistics | None, where: Mapping[str, _Unified]
) -> tuple[Transform, ...]:
    images, found = config.images, list[Transform]()
    if any(column.startswith("image/") for column in member.features.images):
        found += [Decode(), Resize(images.size, images.size, images.pad)]
        found += [Crop(images.crop)] if images.crop < 1 and config.part == "train" else []
        found += [ColourJitter()] if images.jitter and config.part == "train" else []
    for column, (together, own) in where.items():
        key = column if column == ACTION else f"observation/{column}"
        if held is not None and column in held.columns:
            of_action = column == ACTION and bool(member.normalised)
            width = len(held.columns[column].mean)
            found.append(_normalised(config, key, held.columns[column], member.normalised if of_action else (True,) * width))
        if together is None:
            continue
        robot = own[name]
        if column == ACTION:
            assert robot is not None  # every set has one
            found.append(Place(together, robot))
        else:
            found.append(PlaceState(key, together, robot, config.history))
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
