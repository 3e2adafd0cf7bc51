"""Which steps of a prepared set may be drawn, and in which parts: what is read of each episode once, and kept beside the cache."""

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl_data.episode import Episode
from jaxrl_data.placing import keep
from jaxrl_data.transforms.interface import definition
from jaxrl_data.transforms.window import IdleFilter


@dataclass(frozen=True)
class By:
    """Parts of a set that are drawn as if they were sets: its episodes by the text in `column` at their first step, tasks or robots.

    `temperature` flattens the parts' sizes: at infinity all parts are drawn alike, at 1 all steps.
    """

    column: str = "task/instruction"
    temperature: float = inf

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}, but must be above 0 (infinity draws all parts alike)")


class Selection(NamedTuple):
    """Of each episode of a cache."""

    counts: np.ndarray  # [E] int64, steps that may be drawn
    part: np.ndarray  # [E] int64, number of the part
    parts: tuple[str, ...]  # their names; one without a name where there are none


def steps_of(episode: Episode, idle: IdleFilter | None) -> np.ndarray | None:
    """[n] the steps that may be drawn; None for all."""
    return None if idle is None else np.flatnonzero(idle(episode))


def selection(
    folder: Path,
    fingerprint: str,
    meaning: str,
    lengths: np.ndarray,
    read: Callable[[int], Episode],
    idle: IdleFilter | None,
    by: By | None,
) -> Selection:
    """Of all episodes of a cache; `meaning` is the definition of what standardises them. Reads each once, without its images, unless known.

    Raises ValueError that names the episode: it lacks a column.
    """
    if idle is None and by is None:
        return Selection(lengths, np.zeros(len(lengths), np.int64), ("",))
    given = f"{fingerprint}/{meaning}/{definition([idle]) if idle else ''}/{by.column if by else ''}"
    path = folder / f"selection-{hashlib.sha256(given.encode()).hexdigest()[:16]}.npz"
    if (held := _held(path)) is not None and len(held.counts) == len(lengths):
        return held
    counts, number, parts = lengths.copy(), np.zeros(len(lengths), np.int64), dict[str, int]()
    for place in range(len(lengths)):
        episode = read(place)
        if (kept := steps_of(episode, idle)) is not None:
            counts[place] = len(kept)
        number[place] = parts.setdefault(_part(episode, by) if by else "", len(parts))
    found = Selection(counts, number, tuple(parts))
    data = io.BytesIO()
    np.savez(data, counts=found.counts, part=found.part, parts=np.array(found.parts))
    keep(path, data.getvalue())
    return found


def _held(path: Path) -> Selection | None:
    """What is kept; None where there is nothing, or a file that is damaged and made again."""
    try:
        with np.load(path) as held:
            return Selection(held["counts"], held["part"], tuple(held["parts"].tolist()))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _part(episode: Episode, by: By) -> str:
    if by.column not in episode.texts:
        raise ValueError(f"{episode.name}: by.column is {by.column}, which is no text of it; {suggestion(by.column, tuple(episode.texts))}")
    return str(episode.texts[by.column][0])
