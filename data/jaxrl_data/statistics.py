"""Mean, deviation, extremes and quantiles of the columns of a data set, in one pass and fixed memory.

    summary = summarise(dataset)                        # or of parts of it, by several processes or hosts
    summary = merge(summarise(dataset, last=50), summarise(dataset, first=50))
    held = statistics(summary)

Quantiles are exact up to 262,144 rows (fewer where rows are wider than 32 values); beyond that the rank of q01 and q99 is off by no more
than 0.11 % of the rows, that of q10 and q90 by 0.32 %, of the median by 0.53 %, each with a probability of one in a million of being worse
(`sketch.rank_error`). Whoever trains gives the train split: there is no mixing of splits here.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from jaxrl.types import ArraySpec
from jaxrl_data import sketch as sketches
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, length
from jaxrl_data.placing import put
from jaxrl_data.sketch import Sketch

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}

Rows = np.ndarray | tuple[np.ndarray, np.ndarray]  # [T, ...]; or [N, ...] and a mask [N] that is 0 where a row is padding


class Summary(NamedTuple):
    """What can still be merged."""

    columns: dict[str, Sketch]
    specs: dict[str, ArraySpec]  # names and units
    fingerprints: tuple[str, ...]  # of the data, sorted
    definition: str  # of what was done to episodes before
    episodes: int
    steps: int


class Column(NamedTuple):
    """Of one column with D dimensions. All arrays are float64 [D]; `kept` of the `steps` rows tell the quantiles."""

    names: tuple[str, ...]
    unit: str
    steps: int
    kept: int
    mean: np.ndarray
    std: np.ndarray
    min: np.ndarray
    max: np.ndarray
    q01: np.ndarray
    q10: np.ndarray
    q50: np.ndarray
    q90: np.ndarray
    q99: np.ndarray

    @property
    def constant(self) -> tuple[str, ...]:
        """Names of the dimensions that have one value only."""
        return tuple(name for name, low, high in zip(self.names, self.min, self.max, strict=True) if low == high)


class Statistics(NamedTuple):
    """Of a data set after `definition`. Travels with the checkpoint of whatever was trained with it."""

    columns: dict[str, Column]
    fingerprint: str
    definition: str
    episodes: int
    steps: int


class Ranges(NamedTuple):
    """What is mapped to [-1, 1], [D] each, and the names of the dimensions that were widened to the floor."""

    low: np.ndarray
    high: np.ndarray
    floored: tuple[str, ...]


def float_columns(episode: Episode) -> dict[str, Rows]:
    """All columns of floats, as they are stored."""
    return {name: array for name, array in episode.arrays.items() if array.dtype.kind == "f"}


def summarise(
    dataset: Dataset,
    of: Callable[[Episode], Mapping[str, Rows]] = float_columns,
    definition: str = "",
    first: int = 0,
    last: int | None = None,
    specs: Mapping[str, ArraySpec] | None = None,
    advance: Callable[[int], Any] = lambda episodes: None,
) -> Summary:
    """Reads the episodes first to last - 1 once.

    `of` gives the columns that are meant, for instance after standardising; `definition` is the hash of what it does
    (`transforms.interface.definition`), `specs` name the dimensions of its columns (those of the data set where they have the same name
    and width). `advance` is told the number of episodes read.

    Raises BadEpisode, which names the episode, column, step and dimension: a value is not finite, or columns differ between episodes.
    """
    last = dataset.size if last is None else last
    held: dict[str, Sketch] = {}
    pending: dict[str, list[_Block]] = {}
    waiting: dict[str, int] = {}
    episodes = steps = 0
    for number, episode in enumerate(dataset.read(first, last), first):
        columns = of(episode)
        if episodes and columns.keys() != held.keys():
            odd = ", ".join(sorted(columns.keys() ^ held.keys()))
            raise BadEpisode(number, f"{dataset.name}, {episode.name}: {odd} is not in all episodes; leave it out, or give a mask of zeros")
        seed = sketches.seed(f"{dataset.fingerprint}/{dataset.split}/{episode.name}")
        for name, rows in columns.items():
            block = _block(number, f"{dataset.name}, {episode.name}: {name}", seed, rows, length(episode))
            width = block.rows.shape[1]
            if name not in held:
                held[name], pending[name], waiting[name] = sketches.empty(width), [], 0
            if width != len(held[name].mean):
                raise BadEpisode(number, f"{block.where} has {width} values a step, but {len(held[name].mean)} in the episodes before")
            pending[name].append(block)
            waiting[name] += block.rows.size
            if waiting[name] >= sketches.BLOCK:
                held[name], pending[name], waiting[name] = _take_in(held[name], pending[name]), [], 0
        episodes, steps = episodes + 1, steps + length(episode)
        advance(1)
    held = {name: _take_in(sketch, pending[name]) for name, sketch in held.items()}
    known = {**dataset.features.arrays, **(specs or {})}
    return Summary(
        columns=held,
        specs={name: _spec(name, len(sketch.mean), known.get(name)) for name, sketch in held.items()},
        fingerprints=(dataset.fingerprint,),
        definition=definition,
        episodes=episodes,
        steps=steps,
    )


class _Block(NamedTuple):
    episode: int
    where: str
    seed: int
    rows: np.ndarray  # [N, D]
    places: np.ndarray  # [N], in the episode


def _block(number: int, where: str, seed: int, given: Rows, steps: int) -> _Block:
    """Flat rows of one column of one episode, without its padding."""
    values, mask = given if isinstance(given, tuple) else (given, None)
    if len(values) != steps if mask is None else np.shape(mask) != (len(values),):
        shapes = f"{np.shape(values)} values" + ("" if mask is None else f" and a mask {np.shape(mask)}")
        raise BadEpisode(number, f"{where} has {shapes}, but the episode {steps} steps: give [steps, ...], or [N, ...] and a mask [N]")
    rows = values.reshape(len(values), int(np.prod(np.shape(values)[1:], dtype=np.int64)))
    if mask is None:
        return _Block(number, where, seed, rows, np.arange(steps))
    places = np.flatnonzero(mask)
    return _Block(number, where, seed, rows[places], places)


def _take_in(sketch: Sketch, blocks: list[_Block]) -> Sketch:
    """With the rows of all blocks. Raises BadEpisode: one has a value that is not finite."""
    if not blocks:
        return sketch
    rows = np.concatenate([one.rows for one in blocks])
    seeds = np.repeat(np.array([one.seed for one in blocks], np.uint64), [len(one.rows) for one in blocks])
    order = sketches.priorities(seeds, np.concatenate([one.places for one in blocks]))
    with np.errstate(invalid="ignore"):  # what is not finite is told below, by name
        grown = sketches.add(sketch, rows, order)
    if not (np.isfinite(grown.low).all() and np.isfinite(grown.high).all()):  # a NaN is its own minimum
        for one in blocks:
            for row, dimension in np.argwhere(~np.isfinite(one.rows))[:1]:
                raise BadEpisode(
                    one.episode,
                    f"{one.where} is {one.rows[row, dimension]} in dimension {dimension} of row {row}: statistics need finite values; "
                    "mask such rows, or leave the episode out",
                )
    return grown


def _spec(name: str, width: int, known: ArraySpec | None) -> ArraySpec:
    """With a name for each dimension: those of the data set where they fit."""
    if known is not None and len(known.names) == width:
        return ArraySpec((width,), "float64", known.names, known.unit)
    short = name.rsplit("/", 1)[-1]
    unit = known.unit if known is not None and "," not in known.unit else ""
    return ArraySpec((width,), "float64", (short,) if width == 1 else tuple(f"{short}[{place}]" for place in range(width)), unit)


def merge(one: Summary, other: Summary) -> Summary:
    """Of the episodes of both, in any order and grouping. Raises ValueError: columns or definition differ, or an episode is in both."""
    if one.definition != other.definition:
        raise ValueError(f"summaries of other transforms do not merge: {one.definition!r} and {other.definition!r}")
    if not one.episodes or not other.episodes:
        full = one if one.episodes else other
        return full._replace(fingerprints=_union(one, other))
    if one.specs != other.specs:
        odd = [name for name in sorted({*one.specs, *other.specs}) if one.specs.get(name) != other.specs.get(name)]
        raise ValueError(f"summaries of other columns do not merge: {', '.join(odd)} are not the same in both")
    columns = {}
    for name in one.columns:
        try:
            columns[name] = sketches.merge(one.columns[name], other.columns[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return one._replace(
        columns=columns, fingerprints=_union(one, other), episodes=one.episodes + other.episodes, steps=one.steps + other.steps
    )


def _union(one: Summary, other: Summary) -> tuple[str, ...]:
    return tuple(sorted({*one.fingerprints, *other.fingerprints}))


def statistics(summary: Summary) -> Statistics:
    """What a summary comes to. Raises ValueError: there is no row, or an episode was counted twice."""
    columns = {}
    for name, held in summary.columns.items():
        if not held.total:
            raise ValueError(f"{name}: has no rows that are not masked, hence no statistics")
        held = sketches.thinned(held)
        values = sketches.quantiles(held, tuple(QUANTILES.values()))
        columns[name] = Column(
            names=summary.specs[name].names,
            unit=summary.specs[name].unit,
            steps=held.total,
            kept=len(held.rows[0]),
            mean=np.where(held.low == held.high, held.low, held.mean),
            std=sketches.deviation(held),
            min=held.low,
            max=held.high,
            **dict(zip(QUANTILES, values, strict=True)),
        )
    if not columns:
        raise ValueError("there are no columns of floats, hence no statistics")
    return Statistics(columns, "+".join(summary.fingerprints), summary.definition, summary.episodes, summary.steps)


_KINDS: dict[str, Callable[[Column], tuple[np.ndarray, np.ndarray]]] = {
    "quantile": lambda column: (column.q01, column.q99),
    "bounds": lambda column: (column.min, column.max),
    "z_score": lambda column: (column.mean - column.std, column.mean + column.std),
}


def ranges(column: Column, floor: float, kind: str = "quantile") -> Ranges:
    """What normalisation maps to [-1, 1]: q01 to q99 ("quantile"), min to max ("bounds"), or mean -+ std ("z_score").

    A range narrower than `floor`, in the unit of the column, is widened to it around its middle: what hardly moves would otherwise be noise
    blown up to full scale, or a division by zero. Raises ValueError: an unknown kind, or a floor that is not positive.
    """
    if kind not in _KINDS:
        raise ValueError(f"normalisation {kind!r} is not known; there are {', '.join(_KINDS)}")
    if not floor > 0:
        raise ValueError(f"the floor of a range is {floor}, but must be positive: a constant dimension would divide by zero")
    low, high = _KINDS[kind](column)
    narrow = high - low < floor
    middle = (low + high) / 2
    named = tuple(name for name, hit in zip(column.names, narrow, strict=True) if hit)
    return Ranges(np.where(narrow, middle - floor / 2, low), np.where(narrow, middle + floor / 2, high), named)


def compare(found: Statistics, held: Statistics, tolerance: float = 1e-6) -> None:
    """Raises ValueError that names the column and the dimension in which `found` is not what a checkpoint `held`.

    Values may differ by `tolerance` of the column's deviation. Other data or other transforms that come to the same numbers are the same
    to a policy; where the numbers differ, the message tells which of the two changed.
    """
    reasons = [what for what in ("fingerprint", "definition") if getattr(found, what) != getattr(held, what)]
    told = {"fingerprint": "the data are others", "definition": "the transforms are others"}
    because = "; ".join(told[what] for what in reasons) or "data and transforms are said to be the same"
    if odd := sorted(found.columns.keys() ^ held.columns.keys()):
        raise ValueError(f"statistics do not fit the checkpoint's: {odd[0]} is in one of them only ({because})")
    for name, before in held.columns.items():
        now = found.columns[name]
        for place, (one, other) in enumerate(_longest(now.names, before.names)):
            if one != other:
                raise ValueError(f"statistics do not fit the checkpoint's: {name}: dimension {place} is {one}, but was {other} ({because})")
        if now.unit != before.unit:
            raise ValueError(f"statistics do not fit the checkpoint's: {name} is in {now.unit!r}, but was in {before.unit!r} ({because})")
        for field in ("mean", "std", "min", "max", *QUANTILES):
            one, other = getattr(now, field), getattr(before, field)
            allowed = tolerance * np.maximum(before.std, np.finfo(np.float32).tiny) + 1e-12 * np.abs(other)
            for place in np.flatnonzero(~(np.abs(one - other) <= allowed))[:1]:
                raise ValueError(
                    f"statistics do not fit the checkpoint's: {name}, dimension {before.names[place]}: {field} is {one[place]:.9g}, "
                    f"but was {other[place]:.9g} ({because}); train anew, or use the statistics of the checkpoint"
                )


def _longest(one: tuple[str, ...], other: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for place in range(max(len(one), len(other))):
        yield (one[place] if place < len(one) else "missing"), (other[place] if place < len(other) else "missing")


def to_json(held: Statistics) -> dict[str, Any]:
    """Plain, without loss of a digit."""
    plain = {
        name: {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in column._asdict().items()}
        for name, column in held.columns.items()
    }
    return {**held._asdict(), "columns": plain}


def from_json(plain: Mapping[str, Any]) -> Statistics:
    """What `to_json` gave. Raises ValueError that names what is missing."""
    try:
        columns = {}
        for name, told in plain["columns"].items():
            exact = {key: np.asarray(told[key], np.float64) for key in Column._fields[4:]}
            columns[name] = Column(tuple(told["names"]), told["unit"], told["steps"], told["kept"], **exact)
        return Statistics(columns, plain["fingerprint"], plain["definition"], plain["episodes"], plain["steps"])
    except KeyError as error:
        raise ValueError(f"these are no statistics: {error} is missing") from error


def save(path: str, held: Statistics) -> None:
    """As JSON; the file is there whole or not at all."""
    put(epath.Path(path), to_bytes(held))


def to_bytes(held: Statistics) -> bytes:
    """What `load` reads."""
    return json.dumps(to_json(held), indent=1).encode() + b"\n"


def load(path: str) -> Statistics:
    """What `save` wrote. Raises OSError, or ValueError that names the file: it is damaged or something else."""
    text = epath.Path(path).read_text()
    try:
        return from_json(json.loads(text))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; compute the statistics anew") from error
