"""A row of the table of standards, and what it does to an episode.

A part is written as a line: a column of the file, a slice of its last axis, and steps that follow each other,

    action[0:6]                                the first six
    action[-1:] | clip 0 1 | invert_gripper    the last, changed twice
    zeros 3                                    three columns of a constant

and parts stand beside each other in the order in which they are listed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import ArraySpec
from jaxrl_data.embodiments import Dimension, Embodiment
from jaxrl_data.episode import Episode, Features, length
from jaxrl_data.standardise.encodings import ACTIONS, STATES
from jaxrl_data.standardise.steps import CONSTANTS, step

LINE = re.compile(r"^(?P<column>[\w/]+)(\[(?P<first>-?\d*):(?P<last>-?\d*)\])?$")


class Part(NamedTuple):
    """One line, read."""

    column: str
    columns: slice = slice(None)
    steps: tuple[tuple[str, ...], ...] = ()
    constant: int = 0  # so many columns of 0 or 1; the column is then "zeros" or "ones"


def part(line: str) -> Part:
    """Raises ValueError that quotes the line where it cannot be read."""
    source, *steps = (word.strip() for word in line.split("|"))
    name, *arguments = source.split()
    if name in CONSTANTS and len(arguments) == 1 and arguments[0].isdigit() and not steps:
        return Part(name, constant=int(arguments[0]))
    found = LINE.match(source)
    if not found:
        raise ValueError(f"{line!r}: cannot be read; write column, column[0:3] or column[0:3] | step argument")
    first, last = (int(found[end]) if found[end] else None for end in ("first", "last"))
    read = tuple(tuple(one.split()) for one in steps)
    for one in read:
        step(one[0], one[1:])
    return Part(found["column"], slice(first, last), read)


_part = cache(part)  # a line is read once, not for every episode


@dataclass(frozen=True)
class Standard:
    """How one data set is written, and how it becomes house names.

    A camera or text whose column ends with "?" may be missing. `refused` says why a set cannot be standardised; then nothing else counts.
    """

    name: str
    images: Mapping[str, str] = field(default_factory=dict)  # camera -> column
    depth: Mapping[str, str] = field(default_factory=dict)
    text: tuple[str, ...] = ()  # the columns of instructions, the first one first
    state: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # group -> its parts
    action: tuple[str, ...] = ()
    raw: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)  # the shape of a row of each array used; None: not known
    rate: float = 0.0  # [Hz]; 0 where it is not known
    action_encoding: str = "EEF_POS"  # a row of `encodings.ACTIONS`
    state_encoding: Mapping[str, str] = field(default_factory=dict)  # group -> a row of `encodings.STATES`
    action_unit: str = ""  # of what is not a gripper: "si"; "1" of commands that a controller scales; "" where it is not known
    normalised: tuple[bool, ...] = ()  # per dimension of the action: False where normalisation leaves it alone
    drop_first: int = 0  # steps that are no demonstration, at the start
    drop_last: int = 0
    bgr: tuple[str, ...] = ()  # cameras whose channels are stored blue first in the published copy: give them to `Decode`
    note: str = ""  # what is known to be odd
    refused: str = ""

    def __post_init__(self) -> None:
        if self.refused:
            return
        if self.action_encoding not in ACTIONS:
            raise ValueError(f"{self.name}: action_encoding; {suggestion(self.action_encoding, tuple(ACTIONS))}")
        for group in self.state:
            if self.state_encoding.get(group) not in STATES:
                raise ValueError(f"{self.name}: state_encoding of {group}; {suggestion(self.state_encoding.get(group, ''), tuple(STATES))}")
        for line in (*self.action, *(line for lines in self.state.values() for line in lines)):
            read = part(line)
            if not read.constant and read.column not in self.raw:
                raise ValueError(f"{self.name}: {line!r} needs {read.column}, whose shape `raw` does not tell")
        if len(self.normalised) not in (0, len(ACTIONS[self.action_encoding])):
            raise ValueError(
                f"{self.name}: normalised has {len(self.normalised)} entries for {len(ACTIONS[self.action_encoding])} dimensions"
            )
        if self.rate < 0 or self.drop_first < 0 or self.drop_last < 0:
            raise ValueError(f"{self.name}: rate, drop_first and drop_last are not negative")


def _optional(column: str) -> tuple[str, bool]:
    return column.removesuffix("?"), column.endswith("?")


def _column(episode: Episode, name: str, standard: Standard) -> np.ndarray:
    """float32 [T, D] of a raw array."""
    if name not in episode.arrays:
        known = tuple(episode.arrays)
        raise ValueError(f"{episode.name}: lacks {name}, of which {standard.name} is standardised; {suggestion(name, known)}")
    array, shape = np.asarray(episode.arrays[name]), tuple(standard.raw[name])
    if array.ndim != len(shape) + 1 or any(need not in (None, have) for need, have in zip(shape, array.shape[1:], strict=True)):
        raise ValueError(
            f"{episode.name}: {name} is {array.shape[1:]}, but {standard.name} was standardised from {shape}: "
            "another version of the data set needs a row of its own"
        )
    return array.reshape(len(array), -1).astype(np.float32)


def _joined(episode: Episode, lines: Sequence[str], standard: Standard, steps: int) -> np.ndarray:
    columns = []
    for line in lines:
        read = _part(line)
        if read.constant:
            columns.append(np.full((steps, read.constant), float(read.column == "ones"), np.float32))
            continue
        values = _column(episode, read.column, standard)[:, read.columns]
        for name, *arguments in read.steps:
            try:
                values = step(name, arguments)(values)
            except ValueError as error:
                raise ValueError(f"{episode.name}: {line!r}: {error}") from error
        columns.append(values.astype(np.float32))
    return np.concatenate(columns, axis=1)


def _text(episode: Episode, column: str, steps: int) -> Sequence[str]:
    """A column of texts; or of code points or bytes [T, N] that 0 ends."""
    name, optional = _optional(column)
    if name in episode.texts:
        return episode.texts[name]
    if name in episode.arrays:
        rows = np.asarray(episode.arrays[name])
        return ["".join(chr(one) for one in row[: int(np.argmin(np.append(row, 0) != 0))]) for row in rows]
    if optional:
        return [""] * steps
    raise ValueError(f"{episode.name}: lacks the text {name}; {suggestion(name, tuple(episode.texts))}")


def _texts(standard: Standard) -> tuple[str, ...]:
    return tuple("task/instruction" if index == 0 else f"task/instruction_{index + 1}" for index in range(len(standard.text)))


def _pictures(episode: Episode, columns: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for camera, column in columns.items():
        name, optional = _optional(column)
        column_found = episode.images.get(name, episode.arrays.get(name))
        if column_found is not None:
            found[camera] = column_found
        elif not optional:
            known = (*episode.images, *episode.arrays)
            raise ValueError(f"{episode.name}: lacks {name}, the camera {camera}; {suggestion(name, known)}")
    return found


def refuse(standard: Standard) -> None:
    """Raises ValueError where the row says that the set cannot be standardised."""
    if standard.refused:
        raise ValueError(
            f"{standard.name}: is not standardised, because {standard.refused}. "
            "Who knows better writes a row: Standard(name, images=..., action=...), and gives it to `standardiser`"
        )


def standardiser(standard: Standard) -> Callable[[Episode], Episode]:
    """The function from a raw episode of this set to one of house names.

    Arrays: "state/<group>" and "action", float32 [T, D] with the dimensions of `embodiment`; images: "image/<camera>"; depth lies as it is
    stored, under "depth/<camera>"; texts: "task/instruction", and "task/instruction_2" and so on where a step has several. T is less than
    before by what the row drops.

    Raises:
        ValueError: the row refuses, or, once called, a column is missing or has not the shape that the row was written for.
    """
    refuse(standard)

    def standardise(episode: Episode) -> Episode:
        steps = length(episode)
        kept = slice(standard.drop_first, steps - standard.drop_last)
        if kept.stop <= kept.start:
            raise ValueError(f"{episode.name}: has {steps} steps, and {standard.name} drops {standard.drop_first + standard.drop_last}")
        arrays = {f"state/{group}": _joined(episode, lines, standard, steps) for group, lines in standard.state.items()}
        arrays["action"] = _joined(episode, standard.action, standard, steps)
        need = len(ACTIONS[standard.action_encoding])
        if arrays["action"].shape[1] != need:
            raise ValueError(f"{standard.name}: its action has {arrays['action'].shape[1]} dimensions, {standard.action_encoding} {need}")
        images = {f"image/{camera}": column for camera, column in _pictures(episode, standard.images).items()}
        depth = {f"depth/{camera}": column for camera, column in _pictures(episode, standard.depth).items()}
        texts = {name: _text(episode, column, steps) for name, column in zip(_texts(standard), standard.text, strict=True)}
        arrays |= {name: np.asarray(column) for name, column in depth.items() if isinstance(column, np.ndarray)}
        images |= {name: column for name, column in depth.items() if not isinstance(column, np.ndarray)}
        return Episode(
            name=episode.name,
            arrays={name: column[kept] for name, column in arrays.items()},
            images={name: column[kept] for name, column in images.items()},
            texts={name: column[kept] for name, column in texts.items()},
            metadata=episode.metadata,
        )

    return standardise


def _units(names: Sequence[tuple[str, str]], unit: str) -> tuple[Dimension, ...]:
    """The unit of the encoding where the row says "si", else what the row says; what is relative in itself keeps its own."""
    return tuple(Dimension(name, own if unit == "si" or own == "1" else unit) for name, own in names)


def embodiment(standard: Standard) -> Embodiment:
    """What the actions of a set move, dimension by dimension."""
    return Embodiment(standard.name, _units(ACTIONS[standard.action_encoding], standard.action_unit))


def states(standard: Standard) -> tuple[tuple[str, Embodiment], ...]:
    """The state groups of a set and what they tell, dimension by dimension."""
    told = standard.state_encoding.items()
    return tuple((group, Embodiment(f"{standard.name} {group}", _units(STATES[encoding], "si"))) for group, encoding in told)


def _named(names: Sequence[tuple[str, str]]) -> ArraySpec:
    return ArraySpec((len(names),), names=tuple(name for name, _ in names), unit=",".join(unit for _, unit in names))


def features(standard: Standard, stored: Features) -> Features:
    """What the standardised episodes of a data set with the features `stored` hold; cameras that may be missing only where it has them.

    Raises ValueError where the row refuses.
    """
    refuse(standard)
    arrays = {f"state/{group}": _named(STATES[encoding]) for group, encoding in standard.state_encoding.items()}
    arrays["action"] = _named(embodiment(standard).dimensions)
    images = {}
    for kind, columns in (("image", standard.images), ("depth", standard.depth)):
        for camera, column in columns.items():
            name, optional = _optional(column)
            if name in stored.arrays:
                arrays[f"{kind}/{camera}"] = stored.arrays[name]
            elif name in stored.images or not optional:
                images[f"{kind}/{camera}"] = stored.images.get(name, ArraySpec(("height", "width", 3), "uint8"))
    return Features(arrays, images, _texts(standard), standard.rate or stored.rate)
