"""What can be wrong with the episodes of a data set, whatever its format. One pass; what is kept is a hash per episode and counts."""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxrl_data import cameras
from jaxrl_data import sketch as sketches
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, Features, check, length
from jaxrl_data.findings import Finding, error, warning
from jaxrl_data.outliers import Outliers

FLOOR = 1e-3  # of q99 - q01, in the unit of the column: narrower is noise that normalisation would blow up to full scale
_COUNTERS = ("index", "episode_index", "frame_index", "task_index", "timestamp")  # of LeRobot: the same episode has others elsewhere
NOT_NORMALISED = (*_COUNTERS, "reward", "discount", "success")  # floats that nobody looks at as curves


def last_word(name: str) -> str:
    """Of a column: "image_0" of "observation/image_0" and of "observation.image_0"."""
    return re.split(r"[/.]", name)[-1]


@dataclass
class _Tally:
    """What is told at the end of a split, and what it is told from."""

    values: dict[str, sketches.Gathered] = field(default_factory=dict)  # of all rows, by column of floats
    outliers: Outliers = field(default_factory=Outliers)
    seen: dict[str, cameras.Camera] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)  # episodes whose step flags are not where they should be
    empty: dict[str, int] = field(default_factory=dict)  # episodes without a text
    differing: set[tuple[str, str]] = field(default_factory=set)  # columns of texts that are not always the same
    episodes: int = 0


def check_dataset(dataset: Dataset, hashes: dict[int, str], advance: Callable[[int], Any] = lambda episodes: None) -> Iterator[Finding]:
    """Findings of one split. Fills `hashes`, of what an episode holds -> its name."""
    yield from check_features(dataset)
    tally, first = _Tally(), 0
    where = f"{dataset.name} {dataset.split}"
    while first < dataset.size:
        try:
            for episode in dataset.read(first, dataset.size):
                named = episode.name if episode.name.startswith(dataset.name) else f"{where}, {episode.name}"
                yield from _episode(dataset, named, first, episode, tally, hashes)
                first += 1
                advance(1)
            break
        except BadEpisode as bad:
            yield error("unreadable", f"{where}, episode {bad.episode}", "", "an episode that can be read", str(bad))
            advance(max(first, bad.episode) + 1 - first)
            first = max(first, bad.episode) + 1
        except (ValueError, OSError) as fault:
            yield error("unreadable", f"{where}, episode {first} and after", "", "episodes that can be read", str(fault))
            return
    if first != dataset.size:
        yield error("episode count", where, "", f"{dataset.size} episodes", f"{first}")
    yield from _at_the_end(dataset, where, tally)


def check_features(dataset: Dataset) -> Iterator[Finding]:
    """What the metadata alone tell."""
    where = f"{dataset.name} {dataset.split}"
    for name, spec in dataset.features.arrays.items():
        width = spec.shape[-1] if spec.shape else 1
        if spec.names and len(spec.names) != width:
            yield error("names", where, name, f"{width} names", f"{len(spec.names)}: {', '.join(spec.names[:4])} ...")
        elif len(set(spec.names)) != len(spec.names):
            repeated = sorted({one for one in spec.names if spec.names.count(one) > 1})
            yield error("names", where, name, "names of which each is there once", f"more than one {', '.join(repeated)}")
        if "," in spec.unit and len(spec.unit.split(",")) != width:
            yield error("units", where, name, f"one unit, or {width}", f"{len(spec.unit.split(','))}: {spec.unit}")
    if dataset.features.rate <= 0:
        yield warning("rate unknown", where, "", "steps per second", f"{dataset.features.rate:g}")
    if dataset.size == 0:
        yield error("no episodes", where, "", "at least one", "0")


def _episode(dataset: Dataset, where: str, number: int, episode: Episode, tally: _Tally, hashes: dict[int, str]) -> Iterator[Finding]:
    """Findings of one episode; what can only be told of all goes into `tally`."""
    try:
        check(episode, dataset.features)
    except ValueError as fault:
        yield error("columns", where, "", "the columns, rows, types and shapes that the data set promises", str(fault))
        return
    digest = content(episode)
    if digest in hashes:
        yield warning("duplicate episode", where, "", "each episode once", f"the same as {hashes[digest]}")
    hashes.setdefault(digest, episode.name)
    tally.episodes += 1
    seed = np.full(length(episode), number, np.uint64)  # by place: names may repeat
    order = sketches.priorities(seed, np.arange(len(seed)))
    tally.outliers.add("", np.array([[len(seed)]]), number, where)
    for name, array in episode.arrays.items():
        if array.dtype.kind != "f":
            continue
        rows = array.reshape(len(array), -1)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            row, dimension = np.argwhere(~np.isfinite(rows))[0]
            yield error(
                "not finite",
                where,
                name,
                "finite values",
                f"{rows[row, dimension]} in dimension {dimension} of step {row}; {(~finite).sum()} such steps",
            )
        if last_word(name) not in NOT_NORMALISED and finite.any() and rows.shape[1]:
            if name not in tally.values:
                tally.values[name] = sketches.Gathered(rows.shape[1])
            tally.values[name].add(rows[finite], order[finite])
            tally.outliers.add(name, rows[finite], number, where)
        if last_word(name) == "timestamp":
            yield from _times(where, name, rows[:, 0].astype(np.float64), dataset.features.rate)
    for name, images in episode.images.items():
        camera = tally.seen.setdefault(name, cameras.Camera())
        yield from cameras.look(camera, where, name, images, dataset.features.images[name], _flag(episode, name))
    _flags(episode, tally)
    _texts(episode, tally)


def content(episode: Episode) -> int:
    """A hash of what an episode holds, whatever its name and place: all numbers and texts, and three images of each camera."""
    digest = hashlib.blake2b(digest_size=8)
    for name, array in sorted(episode.arrays.items()):
        if last_word(name) not in _COUNTERS:
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    for name, texts in sorted(episode.texts.items()):
        digest.update("\0".join((name, *texts)).encode())
    for name, images in sorted(episode.images.items()):
        digest.update(name.encode())
        for place in cameras.places(len(images)):
            digest.update(images[place])
    return int.from_bytes(digest.digest(), "little")


def overlap(hashes: dict[str, dict[int, str]]) -> Iterator[Finding]:
    """Between splits, by the hashes of each: an episode that is in two of them was seen in training."""
    names = list(hashes)
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            small, large = sorted((one, other), key=lambda name: len(hashes[name]))
            shared = [digest for digest in hashes[small] if digest in hashes[large]]
            if shared:
                share = 100 * len(shared) / len(hashes[small])
                found = f"{len(shared)} of {len(hashes[small])} episodes of {small} ({share:.3g} %) are in {large}"
                found += f", such as {hashes[small][shared[0]]}"
                yield error("splits overlap", f"{one}, {other}", "", "no episode in two splits", found)


def _times(where: str, name: str, times: np.ndarray, rate: float) -> Iterator[Finding]:
    """Against the rate: a drift of 1 % is another rate, half a period a step that is missing, what is less (over 0.1 ms) jitter."""
    if rate <= 0 or not np.isfinite(times).all():
        return
    if abs(times[0]) > 1e-4:
        yield warning("first timestamp", where, name, "0 s at the first step", f"{times[0]:.6g} s")
    if len(times) < 2:
        return
    found = (len(times) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else np.inf
    gaps = np.diff(times) * rate
    late = np.abs(times - times[0] - np.arange(len(times)) / rate)
    if gaps.min() <= 0:
        yield error("timestamps", where, name, "times that increase", f"not so at step {gaps.argmin() + 1}")
    elif abs(np.median(gaps) - 1) > 0.01:
        yield error("rate", where, name, f"{rate:g} steps per second", f"{found:.4g}")
    elif np.abs(gaps - 1).max() > 0.5:
        yield error("timestamps", where, name, f"steps of {1 / rate:.4g} s", f"{gaps.max() / rate:.4g} s before step {gaps.argmax() + 1}")
    elif late.max() > 1e-4 + 1e-6 * np.abs(times).max():  # float32 has seven digits
        yield warning("timestamps", where, name, "step / rate, within 0.1 ms", f"{1000 * late.max():.3g} ms off at step {late.argmax()}")


def _flag(episode: Episode, camera: str) -> bool | None:
    """What the episode says of whether a camera is there; None where it says nothing."""
    wanted = f"has_{last_word(camera)}"
    for name, value in episode.metadata.items():
        if last_word(name) == wanted and isinstance(value, bool | int | np.bool_ | np.integer):
            return bool(value)
    for name, array in episode.arrays.items():
        if last_word(name) == wanted:
            return bool(array.any())
    return None


def _flags(episode: Episode, tally: _Tally) -> None:
    for name, array in episode.arrays.items():
        word = last_word(name)
        if word not in ("is_first", "is_last") or array.ndim != 1:
            continue
        expected = np.zeros(len(array), bool)
        expected[0 if word == "is_first" else -1] = True
        tally.flags[name] = tally.flags.get(name, 0) + int(not np.array_equal(array.astype(bool), expected))


def _texts(episode: Episode, tally: _Tally) -> None:
    for name, texts in episode.texts.items():
        tally.empty[name] = tally.empty.get(name, 0) + int(not any(text.strip() for text in texts))
    for pair in _siblings(tuple(episode.texts)):
        if list(episode.texts[pair[0]]) != list(episode.texts[pair[1]]):
            tally.differing.add(pair)


def _siblings(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Columns that promise several texts for one thing: "instruction", "instruction_2"."""
    stems = [re.sub(r"_?\d+$", "", name) for name in names]
    return [(names[a], names[b]) for a in range(len(names)) for b in range(a + 1, len(names)) if stems[a] == stems[b]]


def _at_the_end(dataset: Dataset, where: str, tally: _Tally) -> Iterator[Finding]:
    if not tally.episodes:
        return
    for name, held in tally.values.items():
        yield from _narrow(where, name, held.whole(), dataset.features)
    yield from tally.outliers.findings(dataset.features)
    for name, camera in tally.seen.items():
        yield from cameras.conclude(camera, where, name)
    for name, wrong in tally.flags.items():
        if wrong:
            place = "first" if last_word(name) == "is_first" else "last"
            yield warning("step flags", where, name, f"true on the {place} step alone", f"not so in {wrong} of {tally.episodes} episodes")
    for name, empty in tally.empty.items():
        if empty:
            yield warning("no text", where, name, "a text in each episode", f"none in {empty} of {tally.episodes} episodes")
    for one, other in _siblings(dataset.features.texts):
        if (one, other) not in tally.differing:
            yield warning("constant text", where, other, f"another text than {one}", "the same in all episodes")


def _narrow(where: str, name: str, held: sketches.Sketch, features: Features) -> Iterator[Finding]:
    """Dimensions that hardly move."""
    low, high = sketches.quantiles(held, (0.01, 0.99))
    for what, hit in (("constant", held.low == held.high), ("hardly moves", (high - low < FLOOR) & (held.low < held.high))):
        dimensions = np.flatnonzero(hit)
        if len(dimensions):
            named = ", ".join(dimension_name(features, name, int(one)) for one in dimensions[:6]) + (", ..." if len(dimensions) > 6 else "")
            spread = (high - low)[dimensions].max()
            found = f"{spread:.3g} at most in {named} ({len(dimensions)} of {len(hit)} dimensions)"
            yield warning(what, where, name, f"q99 - q01 of at least {FLOOR:g}; normalise with a floor", found)


def dimension_name(features: Features, name: str, dimension: int) -> str:
    """Of one entry of a flattened column."""
    spec = features.arrays.get(name)
    return spec.names[dimension] if spec is not None and dimension < len(spec.names) else str(dimension)
