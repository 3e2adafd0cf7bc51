"""Any data set into RLDS or LeRobot, and back with every name and value.

Formats want names of their own. RLDS nests with slashes, LeRobot allows none, and calls cameras observation.images.<name>:

    RLDS                        LeRobot
    observation/state           observation.state
    observation/image/front     observation.images.front       a camera's name has lost images/ or image/
    observation/image_0         observation.images.image_0
    reward                      next.reward
    language_instruction        task                            the text that tells what to do, see INSTRUCTIONS
    timestamp                   step.timestamp                  LeRobot makes timestamp itself

What was renamed, and the shape it had, is kept in `jaxrl.json` beside the data (`origin.Origin`): when a converted data set is converted
again, each column takes the name and shape that it had first, and what the first conversion added is left out.
"""

import contextlib
import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from etils import epath

from jaxrl.types import ArraySpec
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import Episode, Features
from jaxrl_data.lerobot import columns as lerobot
from jaxrl_data.lerobot.writer import lerobot_writer
from jaxrl_data.origin import FILE, KINDS, Column, Origin, read_origin
from jaxrl_data.rlds.writer import rlds_writer
from jaxrl_data.writer import Writer, streamed

INSTRUCTIONS = (
    "task",
    "language_instruction",
    "instruction",
    "natural_language_instruction",
)  # texts that tell what to do; the first counts
PARTS = ".parts"  # in a folder to which Beam is converting: what it keeps until all is there
Progress = Callable[[int, int], None]  # (episodes written, episodes of the source)


def lerobot_origin(source: Dataset, given: Origin | None = None) -> Origin:
    """How the columns of a data set are called in LeRobot; `given` is the origin of the source, if it was converted itself."""
    task = _instruction(one.source for one in given.columns if one.kind == "texts") if given else _instruction(source.features.texts)

    def name(column: str, kind: str) -> str:
        path = column.removeprefix("steps/").replace("/", ".")
        if kind == "texts" and column == task:
            return lerobot.TASK
        if kind == "images":
            for prefix in ("observation.", "images.", "image."):
                path = path.removeprefix(prefix)
            return f"observation.images.{path}"
        path = {"reward": "next.reward"}.get(path, path)
        return f"step.{path}" if path in (*lerobot.DERIVED, lerobot.TASK) else path

    first = {one.source for one in given.columns} if given else {*source.features.arrays}
    derived = tuple(lerobot.DERIVED) if first.issuperset(lerobot.DERIVED) else ()  # it was LeRobot's: they are made anew
    return _origin(source, given, name, lambda column: "/" not in column and column not in lerobot.DERIVED, derived, inside=False)


def rlds_origin(source: Dataset, given: Origin | None = None) -> Origin:
    """How the columns of a data set are called in RLDS; `given` as above."""

    def name(column: str, kind: str) -> str:
        if column == lerobot.TASK and kind == "texts" and "language_instruction" not in source.features.names:
            return "language_instruction"
        path = {"next.reward": "reward"}.get(column, column).removeprefix("steps/")
        return path if "/" in path or "." not in path else path.replace(".", "/", 1).replace(".", "_")

    return _origin(source, given, name, lambda column: "." not in column, (), inside=True)


def _origin(
    source: Dataset,
    given: Origin | None,
    name: Callable[[str, str], str],
    allows: Callable[[str], bool],
    derived: tuple[str, ...],
    inside: bool,
) -> Origin:
    """Of a conversion to a format that gives a column a `name` if it has none from before which it `allows`.

    `derived` columns are left out, because the format makes them anew; `inside` says that no column may lie inside another one.
    """
    features = source.features
    first = {(one.kind, one.name): one.source for one in given.columns} if given else {}
    taken: set[str] = set()
    found = []
    for kind, columns in zip(KINDS, (features.arrays, features.images, features.texts), strict=True):
        for column in columns:
            before = first.get((kind, column), column)
            if (given and (kind, column) not in first) or before in derived:
                continue
            target = before if given and allows(before) else name(before, kind)
            while target in taken or (inside and any(target.startswith(f"{one}/") or one.startswith(f"{target}/") for one in taken)):
                target = target.replace("/", "_") if "/" in target and target not in taken else f"{target}_"
            taken.add(target)
            found.append(Column(target, column, kind, features.arrays.get(column) or features.images.get(column)))
    rate = given.rate if given and given.rate else features.rate
    return Origin(tuple(found), rate, source.name, source.fingerprint)


def _instruction(texts: Iterable[str]) -> str:
    last = {text.rsplit("/", 1)[-1].rsplit(".", 1)[-1]: text for text in texts}
    return next((last[one] for one in INSTRUCTIONS if one in last), "")


def renamed(features: Features, origin: Origin, given: Origin | None = None) -> Features:
    """The features of the converted data set. Columns have the shapes that they had before the conversion of which `given` tells."""
    before = {(one.kind, one.name): one.spec for one in given.columns} if given else {}

    def spec(kind: str, column: str) -> ArraySpec:
        found = features.arrays[column] if kind == "arrays" else features.images[column]
        first = before.get((kind, column))
        return replace(first, dtype=found.dtype) if first and kind == "arrays" else first or found

    arrays, images = ({new: spec(kind, old) for old, new in origin.names(kind).items()} for kind in ("arrays", "images"))
    return Features(arrays, images, tuple(origin.names("texts").values()), origin.rate)


def convert(source: Dataset, writer: Writer, progress: Progress | None = None) -> int:
    """Writes the episodes that the writer has not yet, and says how many. It is one of `into_rlds` or `into_lerobot`, and stays open.

    Raises:
        BadEpisode: one cannot be read; those before it are written.
        ValueError: one does not fit; the message names it.
    """
    before = writer.size()
    if before > source.size:
        raise ValueError(f"{source.name}: has {source.size} episodes, but its copy {before} already; write to another folder")
    written = before
    for episode in source.read(before, source.size):
        writer.add(episode)
        written += 1
        if progress:
            progress(written, source.size)
    return written - before


def _renaming(features: Features, writer: Writer, origin: Origin) -> Writer:
    """`writer` for columns by the names and in the shapes of `features`, whole episodes or step by step."""
    return streamed(features, writer.size, lambda episode: writer.add(_renamed(episode, origin, writer.features)), writer.close)


def _renamed(episode: Episode, origin: Origin, features: Features) -> Episode:
    arrays = {new: _shaped(episode.arrays[old], features.arrays[new].shape) for old, new in origin.names("arrays").items()}
    images = {new: episode.images[old] for old, new in origin.names("images").items()}
    texts = {new: episode.texts[old] for old, new in origin.names("texts").items()}
    return Episode(episode.name, arrays, images, texts, episode.metadata)


def _shaped(array: np.ndarray, shape: tuple[int | str, ...]) -> np.ndarray:
    """The rows in another shape of as many numbers, such as [] for [1]; sizes that are not fixed stay as they are."""
    fixed = tuple(size for size in shape if isinstance(size, int))
    suits = len(fixed) == len(shape) and math.prod(fixed) == math.prod(array.shape[1:])
    return array.reshape(len(array), *fixed) if suits else array


def into_rlds(
    source: Dataset,
    path: str,
    name: str,
    *,
    origin: Origin | None = None,
    make: Callable[..., Writer] = rlds_writer,
    **options: object,
) -> Writer:
    """Writes episodes with the columns of a data set as RLDS; `options` are those of `rlds_writer`, or of another one that is to `make` it.

    `origin` is that of the source folder (`origin.read_origin`): with it, columns get the names back that they had before.
    """
    told = rlds_origin(source, origin)
    _check_source(path, told)
    writer = make(path, name, renamed(source.features, told, origin), origin=told, **options)
    return _renaming(source.features, writer, told)


def into_lerobot(source: Dataset, path: str, robot_type: str, *, fps: int = 0, origin: Origin | None = None, **options: object) -> Writer:
    """Writes episodes with the columns of a data set as LeRobot; `options` are those of `lerobot_writer`.

    `fps` may be left out where the data set tells its rate; `origin` as for `into_rlds`.
    """
    told = lerobot_origin(source, origin)
    if not fps and (told.rate <= 0 or told.rate != int(told.rate)):
        has = f"{told.rate} steps per second" if told.rate else "no rate"
        raise ValueError(f"{source.name}: tells of {has}, but LeRobot needs a whole number of steps per second; give fps")
    _check_source(path, told)
    features = renamed(source.features, told, origin)
    writer = lerobot_writer(path, features, fps or int(told.rate), robot_type, origin=told, **options)  # type: ignore[arg-type]
    return _renaming(source.features, writer, told)


def to_rlds(source: Dataset, path: str, name: str, *, progress: Progress | None = None, **options: object) -> int:
    """Writes a data set as RLDS, going on where an interrupted conversion stopped; `options` are those of `into_rlds`."""
    with contextlib.closing(into_rlds(source, path, name, **options)) as writer:  # type: ignore[arg-type]
        return convert(source, writer, progress)


def to_lerobot(source: Dataset, path: str, robot_type: str, *, progress: Progress | None = None, **options: object) -> int:
    """Writes a data set as LeRobot, going on where an interrupted conversion stopped; `options` are those of `into_lerobot`."""
    with contextlib.closing(into_lerobot(source, path, robot_type, **options)) as writer:  # type: ignore[arg-type]
        return convert(source, writer, progress)


def _check_source(path: str, told: Origin) -> None:
    """Raises ValueError where the folder holds a conversion of something else, or Beam is at work there."""
    if (epath.Path(path) / PARTS).exists():
        raise ValueError(f"{path}: a conversion on Beam was begun there; go on with --beam, or write to another folder")
    found = read_origin(path)
    if found and (found.dataset, found.fingerprint) != (told.dataset, told.fingerprint):
        other = repr(found.dataset) + (" by name, of another split, policy, seed or contents" if found.dataset == told.dataset else "")
        raise ValueError(f"{path}: {FILE} tells of another data set, {other}; write {told.dataset!r} to another folder")
