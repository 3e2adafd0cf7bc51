"""One recorded episode, whatever file it comes from: columns of T rows, by the names that the file gives them.

Images stay encoded (JPEG or PNG bytes) until somebody looks at them: an episode in memory is as large as on disk.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import ArraySpec


@dataclass(frozen=True)
class Features:
    """What each step of a data set holds. A size that differs between episodes is a name, such as "height"."""

    arrays: Mapping[str, ArraySpec] = field(default_factory=dict)
    images: Mapping[str, ArraySpec] = field(default_factory=dict)  # [height, width, channels] once decoded: uint8, or uint16 of depth
    texts: tuple[str, ...] = ()
    rate: float = 0.0  # steps per second; 0 where it is not known

    @property
    def names(self) -> tuple[str, ...]:
        """Of all columns."""
        return (*self.arrays, *self.images, *self.texts)


class Episode(NamedTuple):
    """T steps. What follows the last action is not part of it, unless the data set has a step for it."""

    name: str  # by which messages call it: unique in its data set and split, the same on every machine
    arrays: dict[str, np.ndarray]  # [T, ...]
    images: dict[str, Sequence[bytes]]  # T encoded images each
    texts: dict[str, Sequence[str]]  # T strings each
    metadata: dict[str, Any] = {}  # of the whole episode, plain JSON


class BadEpisode(ValueError):
    """An episode that cannot be used: the message names file, episode and key. `episode` is its place in the data set."""

    def __init__(self, episode: int, message: str) -> None:
        super().__init__(message)
        self.episode = episode

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.episode, str(self))  # so that it comes out of another process


def chosen(features: Features, columns: Iterable[str] | None) -> Features:
    """Those of these columns, in the order of the data set; all where `columns` is None. Raises ValueError: one is not there."""
    if columns is None:
        return features
    wanted = set(columns)
    for name in sorted(wanted):
        if name not in features.names:
            raise ValueError(f"{name}: the data set has no such column; {suggestion(name, features.names)}")
    arrays, images = ({name: spec for name, spec in table.items() if name in wanted} for table in (features.arrays, features.images))
    return Features(arrays, images, tuple(name for name in features.texts if name in wanted), features.rate)


def without_columns(features: Features, without: Collection[str]) -> Features:
    """Those that are not named. Raises ValueError: one is not there."""
    for name in without:
        if name not in features.names:
            raise ValueError(f"there is no column {name} to leave out; there are {', '.join(features.names)}")
    return chosen(features, [name for name in features.names if name not in without])


def with_columns(episode: Episode, features: Features) -> Episode:
    """With the columns that `features` names."""
    return episode._replace(
        arrays={name: column for name, column in episode.arrays.items() if name in features.arrays},
        images={name: column for name, column in episode.images.items() if name in features.images},
        texts={name: column for name, column in episode.texts.items() if name in features.texts},
    )


def length(episode: Episode) -> int:
    """T, of the first column. Raises ValueError where there is none."""
    for table in (episode.arrays, episode.images, episode.texts):
        for column in table.values():
            return len(column)
    raise ValueError(f"{episode.name}: has no columns")


def check(episode: Episode, features: Features) -> None:
    """Raises ValueError that names the episode and the column: one is missing or unknown, or its rows are not as many, or not as told."""
    found = (*episode.arrays, *episode.images, *episode.texts)
    for name in features.names:
        if name not in found:
            raise ValueError(f"{episode.name}: lacks {name}; it has {', '.join(sorted(found)) or 'nothing'}")
    for name in found:
        if name not in features.names:
            raise ValueError(f"{episode.name}: has {name}, which the data set does not tell of; {suggestion(name, features.names)}")
    steps = length(episode)
    if steps == 0:
        raise ValueError(f"{episode.name}: has no steps")
    for table in (episode.arrays, episode.images, episode.texts):
        for name, column in table.items():
            if len(column) != steps:
                raise ValueError(f"{episode.name}: {name} has {len(column)} rows, but {features.names[0]} {steps}")
    for name, spec in features.arrays.items():
        array = episode.arrays[name]
        fits = len(array.shape) == len(spec.shape) + 1 and all(
            not isinstance(need, int) or need == have for need, have in zip(spec.shape, array.shape[1:], strict=True)
        )
        if not fits or str(array.dtype) != spec.dtype:
            raise ValueError(f"{episode.name}: {name} is {array.dtype} {array.shape[1:]}, but should be {spec.dtype} {spec.shape}")
