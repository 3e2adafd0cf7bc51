"""What a mixture of data sets draws, as a config, and what its samples are made of."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import ArraySpec
from jaxrl_data.embodiments import Embodiment, Space, embodiment, space, unitless
from jaxrl_data.episode import Features
from jaxrl_data.measured import Measured, told_rows
from jaxrl_data.members import Part, Set
from jaxrl_data.statistics import Column, Statistics
from jaxrl_data.statistics import ranges as ranges_of
from jaxrl_data.transforms.images import Decode, Resize
from jaxrl_data.transforms.instruction import ChooseInstruction, Tokenise
from jaxrl_data.transforms.interface import Spec, Transform, spec_after
from jaxrl_data.transforms.keys import ACTION, STATE, camera
from jaxrl_data.transforms.named import AUGMENTATIONS, named
from jaxrl_data.transforms.normalise import Normalise
from jaxrl_data.transforms.place import Place, PlaceStates
from jaxrl_data.transforms.window import GoalWindow, Window

FLOOR = 1e-2  # of a range that is mapped to [-1, 1], in the unit of its dimension


@dataclass(frozen=True)
class Images:
    """`size` of the images in a batch, square; with `pad` their proportions are kept."""

    size: int = 224
    pad: bool = True
    cameras: tuple[str, ...] = ()  # none named: those that all sets have

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"images.size is {self.size}, but must be at least 1")


@dataclass(frozen=True)
class Goal:
    """What `cameras` see at a later step of the same episode, as `GoalWindow`; the words stay with the probability `keep_instruction`."""

    cameras: tuple[str, ...] = ("primary",)
    keep_instruction: float = 1.0

    def __post_init__(self) -> None:
        self.window(Window())

    def window(self, window: Window) -> GoalWindow:
        """With a goal."""
        return GoalWindow(window, self.cameras, self.keep_instruction)


@dataclass(frozen=True)
class Mixture:
    """What is drawn, and what a sample is made of. `temperature` flattens the sizes of sets, which their weights multiply: 1 draws each
    step alike, 2 by square roots, infinity by the weights alone.

    `normalise` maps state and action of each set to [-1, 1] by its own statistics ("quantile", "bounds") or to deviation 1 ("z_score");
    "" leaves them in their units, which several sets need to have in common. Of a single set the policy then normalises by itself, the same
    way by `scale`. `tokens` makes ids of instructions, which stay behind
    without it. What `augment` names (`transforms.named.AUGMENTATIONS`) makes samples different each time but in validation, in its order.
    """

    sets: Mapping[str, Set] = field(default_factory=dict)
    temperature: float = 1.0
    history: int = 1
    horizon: int = 1
    history_stride: int = 1
    action_stride: int = 1
    images: Images = field(default_factory=Images)
    goal: Goal | None = None
    tokens: Tokenise | None = None
    augment: tuple[dict[str, Any], ...] = ()
    normalise: Literal["", "z_score", "bounds", "quantile"] = ""
    scale: Literal["z_score", "bounds", "quantile"] = "z_score"
    validation: float = 0.0  # share of the episodes that is held out
    part: Part = "train"
    seed: int = 0
    quarantine: bool = False
    constant_actions: bool = False  # dimensions of the action that never change are to be held, and are not refused in training

    def __post_init__(self) -> None:
        if not self.sets:
            raise ValueError("sets: empty; name at least one data set")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation is {self.validation}, but must be at least 0 and below 1")
        self.augmentations()

    def augmentations(self) -> tuple[Transform, ...]:
        """What makes samples different. Raises ValueError where one is not known or refuses its fields."""
        return named(self.augment, AUGMENTATIONS, "augment")


class Told(Protocol):
    """What of a set decides what its samples go through, wherever its episodes come from."""

    @property
    def given(self) -> Set: ...
    @property
    def features(self) -> Features: ...  # standardised
    @property
    def normalised(self) -> tuple[bool, ...]: ...  # which dimensions of the action normalisation is for; () for all
    @property
    def bgr(self) -> tuple[str, ...]: ...  # cameras that are stored blue first


class Making(NamedTuple):
    """What the samples of a mixture go through, and what they are then."""

    window: Window | GoalWindow
    cameras: tuple[str, ...]  # that are read, those of goals too
    transforms: dict[str, tuple[Transform, ...]]  # of each set
    spec: Spec


def _vectors(name: str, member: Told, window: Window) -> dict[str, ArraySpec]:
    """One step of each state and of the action, once the set's own transforms have changed them."""
    try:
        return told_rows(spec_after(member.given.numbers(), window.spec(member.features)))
    except ValueError as error:
        raise ValueError(f"sets.{name}: {error}") from error


def _states(vectors: Mapping[str, ArraySpec]) -> dict[str, ArraySpec]:
    return {name: spec for name, spec in vectors.items() if name != ACTION}


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


def _spaces(config: Mixture, vectors: Mapping[str, Mapping[str, ArraySpec]]) -> Spaces:
    """Raises ValueError that names the sets whose dimensions do not fit together."""
    actions = {name: {ACTION: table[ACTION]} for name, table in vectors.items()}
    states = {name: _states(table) for name, table in vectors.items()}

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
    """Raises ValueError where a camera is asked for that no set has."""
    have = [{name.partition("/")[2] for name in member.features.images} for member in members.values()]
    _check_known("images.cameras", config.images.cameras, set.union(*have))
    _check_known("goal.cameras", config.goal.cameras if config.goal else (), set.union(*have))
    return config.images.cameras or tuple(sorted(set.intersection(*have)))


def _check_augmented(config: Mixture, spec: Spec) -> None:
    """Raises ValueError where what makes samples different is told of a camera or state that they have not."""
    have = {
        "cameras": {camera(key) for key in spec if camera(key)},
        "groups": {key.removeprefix(STATE) for key in spec if key.startswith(STATE)},
    }
    for place, one in enumerate(config.augmentations()):
        for field_name, known in have.items():
            _check_known(f"augment[{place}].{field_name}", getattr(one, field_name, ()), known)


def _check_known(where: str, names: Iterable[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{where}: no set has {name}; {suggestion(name, tuple(sorted(known))) if known else 'there is none'}")


def _window(config: Mixture, cameras: tuple[str, ...] = ()) -> Window:
    return Window(config.history, config.horizon, config.history_stride, config.action_stride, cameras)


def check_reach(config: Mixture, longest: int) -> None:
    """Raises ValueError where a chunk is longer than the longest episode, so that each of its samples would be padded."""
    reach = (config.horizon - 1) * config.action_stride + 1
    if reach > longest:
        raise ValueError(
            f"horizon: a chunk of {config.horizon} reaches over {reach} steps, but the longest episode has {longest}; shorten it"
        )


def measured_of(config: Mixture, one: Set) -> Measured:
    """What the statistics of a set are of."""
    return Measured(_window(config), one.numbers(), one.idle)


def making(config: Mixture, members: Mapping[str, Told], held: Mapping[str, Statistics]) -> Making:
    """What samples of these sets go through; `held` are the statistics that they are normalised by.

    Raises ValueError that names the sets and dimensions that do not fit together.
    """
    cameras = _cameras(config, members)
    plain = _window(config, cameras)
    window = config.goal.window(plain) if config.goal else plain
    vectors = {name: _vectors(name, member, plain) for name, member in members.items()}
    if config.tokens is not None:
        config.tokens.check()
    spaces = _spaces(config, vectors)
    transforms = {name: _transforms(config, name, member, vectors[name], held.get(name), spaces) for name, member in members.items()}
    specs = {name: _arrays(spec_after(transforms[name], window.spec(member.features))) for name, member in members.items()}
    (first, spec), *others = specs.items()
    for other, told in others:
        _check_alike(first, spec, other, told)
    _check_augmented(config, spec)
    return Making(window, tuple(sorted({*cameras, *(config.goal.cameras if config.goal else ())})), transforms, spec)


def _transforms(
    config: Mixture, name: str, member: Told, vectors: Mapping[str, ArraySpec], held: Statistics | None, spaces: Spaces
) -> tuple[Transform, ...]:
    images, found = config.images, [*member.given.numbers()]
    if images.cameras or config.goal or any(column.startswith("image/") for column in member.features.images):
        resize = Resize(images.size, images.size, images.pad)
        found += [Decode(member.bgr, resize), resize]
    for column, spec in vectors.items():
        if held is not None:
            key = column if column == ACTION else f"observation/{column}"
            changed = _changed(name, member, spec) if column == ACTION else (True,) * len(held.columns[column].mean)
            found.append(_normalised(config, key, held.columns[column], changed))
    if spaces.state is not None:
        groups = ((column.removeprefix("state/"), _robot(config, f"{name}, {column}", spec)) for column, spec in _states(vectors).items())
        found.append(PlaceStates(spaces.state, tuple(groups)))
    if spaces.action is not None:
        found.append(Place(spaces.action, _robot(config, f"{name}, {ACTION}", vectors[ACTION])))
    if config.tokens is not None:
        if not any(text.startswith("task/instruction") for text in member.features.texts):
            warnings.warn(f"sets.{name}: has no instruction (task/instruction), so its samples have an empty one", stacklevel=3)
        found += [ChooseInstruction(), config.tokens]
    return (*found, *config.augmentations())


def _changed(name: str, member: Told, action: ArraySpec) -> tuple[bool, ...]:
    """Which dimensions of the action are normalised."""
    (width,) = map(int, action.shape)
    told = member.normalised or (True,) * width
    if len(told) != width:
        raise ValueError(
            f"sets.{name}: its standard says of {len(told)} dimensions of the action which to normalise, but transforms make them {width}; "
            "give columns in place of the standard, or leave normalise out"
        )
    return told


def _arrays(spec: Spec) -> Spec:
    """What of a sample goes into batches, in one order."""
    return {name: one for name, one in sorted(spec.items()) if one.dtype not in ("str", "bytes") and not name.startswith("reference/")}


def _check_alike(first: str, spec: Spec, other: str, told: Spec) -> None:
    """Raises ValueError that names what two sets do not have in common."""
    for name in sorted({*spec, *told}):
        one, two = spec.get(name), told.get(name)
        if one is None or two is None or (one.shape, one.dtype) != (two.shape, two.dtype):
            show = [f"{one.dtype} {one.shape}" if one else "nothing" for one in (one, two)]
            raise ValueError(f"the samples of {first} and {other} differ: {name} is {show[0]} in one and {show[1]} in the other")
