"""A conversion in parts, for many machines: as an Apache Beam pipeline.

A part is some episodes behind each other, which a worker converts as `convert` does, to a folder of its own: a data set by itself. When
all are there, each is given its place in the whole, and its files go there. The folder `.parts` keeps what was done and goes when all is:

    .parts/job.json              what is converted to what
    .parts/seed/                 what the first episode tells of all: with these files every part begins
    .parts/<random>/             a part, by one attempt
    .parts/00003.written.json    the folder of part 3, and what the others have to know of it
    .parts/00003.placed.json     its files are where they belong

Each file is there whole or not at all, and what has its file is not done again. So a worker may be killed, do again what was done, or do
what another does at the same time, and a conversion that was cut goes on.
"""

import contextlib
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath

from jaxrl_data.convert import PARTS, to_lerobot, to_rlds
from jaxrl_data.dataset import Dataset, only
from jaxrl_data.episode import Episode, without_columns
from jaxrl_data.lerobot import parts as lerobot
from jaxrl_data.open import open_dataset
from jaxrl_data.origin import read_origin
from jaxrl_data.pipeline import pipeline
from jaxrl_data.placing import copy, whole
from jaxrl_data.rlds import parts as rlds
from jaxrl_data.stored import is_local

Told = dict[str, Any]
_MOST = 2048  # parts, so that a large set is not a million files
_SMALLEST = 32  # episodes of a part
_READS = 16  # small files of a cloud at a time


class Format(NamedTuple):
    """What is converted to, and how data sets of that format come behind one another (`rlds.parts`, `lerobot.parts`)."""

    write: Callable[..., int]  # (source, path, origin=, **options) -> episodes written
    emptied: Callable[[Path], tuple[str, ...]]
    told: Callable[[Path], Told]
    shares: Callable[[Sequence[Told]], list[Told]]
    place: Callable[[epath.Path, epath.Path, epath.Path, Told, Told], Told]
    finish: Callable[[epath.Path, epath.Path, epath.Path, Sequence[Told], Sequence[Told]], None]


FORMATS = {
    "rlds": Format(to_rlds, rlds.emptied, rlds.told, rlds.shares, rlds.place, rlds.finish),
    "lerobot": Format(to_lerobot, lerobot.emptied, lerobot.told, lerobot.shares, lerobot.place, lerobot.finish),
}


@dataclass(frozen=True)
class Job:
    """What is converted to what; every worker has it."""

    path: str
    split: str
    without: tuple[str, ...]  # columns
    fingerprint: str
    episodes: int
    episodes_per_part: int
    to: str  # one of FORMATS
    options: Mapping[str, Any]  # of `to_rlds` or `to_lerobot`

    @property
    def parts(self) -> int:
        """How many there are."""
        return -(-self.episodes // self.episodes_per_part)


def job(
    path: str,
    to: str,
    options: Mapping[str, Any],
    split: str | None = None,
    without: Sequence[str] = (),
    episodes_per_part: int | None = None,
) -> Job:
    """A conversion to one of FORMATS with the options of its writer. Reads metadata only.

    Raises:
        ValueError: the path holds no data set, there is no such split, or the set has no episodes.
    """
    dataset = open_dataset(path, split)
    if dataset.size == 0:
        raise ValueError(f"{path}: split {dataset.split} has no episodes")
    if episodes_per_part is not None and episodes_per_part < 1:
        raise ValueError(f"episodes_per_part is {episodes_per_part}, but must be at least 1")
    size = episodes_per_part or max(_SMALLEST, -(-dataset.size // _MOST))
    return Job(str(path), dataset.split, tuple(without), dataset.fingerprint, dataset.size, size, to, dict(options))


def begin(job: Job, out: str) -> bool:
    """Puts into the folder what the workers need; False where the conversion is there already.

    Raises:
        BadEpisode: the first episode cannot be read.
        ValueError: the folder holds something else, or an option does not suit the data.
    """
    folder = epath.Path(out)
    if _is_whole(job, folder):
        (folder / PARTS).rmtree(missing_ok=True)
        if is_local(folder):
            _write(job, out, 0, job.episodes)  # nothing, but it looks whether this is what was asked for
        return False
    scratch, told = folder / PARTS, json.loads(json.dumps(asdict(job)))
    if (scratch / "job.json").exists():
        found = json.loads((scratch / "job.json").read_text())
        for key in sorted(found.keys() - {"path"}):  # the same data may have moved
            if found[key] != told[key]:
                raise ValueError(f"{out}: was begun with {key} {found[key]!r}, and not {told[key]!r}; go on so, or choose another folder")
    elif folder.exists() and any(one.name != PARTS for one in folder.iterdir()):
        raise ValueError(f"{out}: is not empty, and holds no conversion that Beam began; choose another folder")
    with whole(scratch / "job.json", scratch) as file:
        file.write(json.dumps(told).encode())
    if not (scratch / "seed.json").exists():
        with tempfile.TemporaryDirectory() as made:
            _write(job, made, 0, 1)
            names = FORMATS[job.to].emptied(Path(made))
            for name in names:
                copy(epath.Path(made) / name, scratch / "seed" / name, scratch)
        with whole(scratch / "seed.json", scratch) as file:
            file.write(json.dumps(names).encode())
    return True


def _is_whole(job: Job, folder: epath.Path) -> bool:
    """Whether the folder holds all of it, but for files that are not needed any more."""
    origin = read_origin(os.fspath(folder)) if folder.exists() else None
    if origin is None or origin.fingerprint != job.fingerprint:
        return False
    with contextlib.suppress(ValueError, OSError):  # of a conversion that was cut at its end
        return open_dataset(os.fspath(folder)).size == job.episodes
    return False


def _write(job: Job, folder: str, first: int, last: int) -> int:
    """Converts some episodes to a folder of this machine, unless it holds them; how many."""
    source = open_dataset(job.path, job.split)
    if source.fingerprint != job.fingerprint:
        raise ValueError(f"{job.path}: has changed since its conversion was begun")
    source = _part(only(source, without_columns(source.features, job.without).names), first, last)
    return FORMATS[job.to].write(source, folder, origin=read_origin(job.path), **job.options)


def _part(source: Dataset, first: int, last: int) -> Dataset:
    """The same data set, as if it had these episodes only."""

    def read(begin: int, end: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
        return source.read(first + begin, first + end, columns)

    return source._replace(size=last - first, read=read, files=())


def write_part(part: int, job: Job, out: str) -> Told:
    """Converts the episodes of one part, in whatever process this is, unless that is done; what the others have to know of it.

    Raises:
        BadEpisode: an episode cannot be read.
        ValueError: one does not fit; the message names it.
    """
    scratch = epath.Path(out) / PARTS
    entry = scratch / f"{part:05d}.written.json"
    if entry.exists():
        return dict(json.loads(entry.read_text()))
    attempt = scratch / uuid.uuid4().hex
    with _local(attempt) as folder:
        for name in json.loads((scratch / "seed.json").read_text()):
            copy(scratch / "seed" / name, epath.Path(folder) / name, epath.Path(folder))
        first, last = part * job.episodes_per_part, min((part + 1) * job.episodes_per_part, job.episodes)
        if (written := _write(job, str(folder), first, last)) != last - first:
            raise ValueError(f"{job.path}: ends at episode {first + written}, before episode {last}, although its metadata tell of it")
        told = FORMATS[job.to].told(folder) | {"part": part, "folder": attempt.name}
    if entry.exists():  # another worker was as quick, and its folder may be in use
        attempt.rmtree()
        return dict(json.loads(entry.read_text()))
    with whole(entry, scratch) as file:
        file.write(json.dumps(told).encode())
    return told


@contextlib.contextmanager
def _local(folder: epath.Path) -> Iterator[Path]:
    """A new folder to write to, which is `folder` itself, or is copied there when the block ends. After an error it is gone."""
    if not is_local(folder):
        with tempfile.TemporaryDirectory() as made:
            yield Path(made)
            for path in sorted(Path(made).rglob("*")):
                if path.is_file():
                    copy(epath.Path(path), folder / path.relative_to(made).as_posix(), folder)
        return
    folder.mkdir(parents=True)
    try:
        yield Path(folder)
    except BaseException:
        folder.rmtree()
        raise


def shares(job: Job, written: Iterable[Told]) -> list[tuple[Told, Told]]:
    """What each part is, and where it begins in the whole, in the order of the parts."""
    parts = sorted(written, key=lambda one: one["part"])
    return list(zip(parts, FORMATS[job.to].shares(parts), strict=True))


def place_part(part: tuple[Told, Told], job: Job, out: str) -> None:
    """Puts the files of a written part where they belong, unless that is done. Raises ValueError: the part is damaged."""
    about, share = part
    scratch = epath.Path(out) / PARTS
    entry = scratch / f"{about['part']:05d}.placed.json"
    if not entry.exists():
        try:
            told = FORMATS[job.to].place(scratch / about["folder"], epath.Path(out), scratch, about, share)
        except (ValueError, OSError) as error:
            written = scratch / f"{about['part']:05d}.written.json"
            raise ValueError(
                f"part {about['part']}, {scratch / about['folder']}, cannot be put in its place ({error}); "
                f"if it is damaged, remove {written} and repeat the command, which writes it anew"
            ) from error
        with whole(entry, scratch) as file:
            file.write(json.dumps(told).encode())


def finish(job: Job, out: str) -> None:
    """Writes what tells of the whole, when all parts are placed, and clears away what is not needed any more.

    Raises:
        FileNotFoundError: a part is missing.
    """
    folder = epath.Path(out)
    scratch = folder / PARTS

    def entries(kind: str) -> list[Told]:
        with ThreadPoolExecutor(_READS) as pool:
            texts = pool.map(lambda part: (scratch / f"{part:05d}.{kind}.json").read_text(), range(job.parts))
            return [json.loads(text) for text in texts]

    FORMATS[job.to].finish(scratch / "seed", folder, scratch, entries("written"), entries("placed"))
    scratch.rmtree()


def convert_on_beam(job: Job, out: str, options: Any = None) -> None:
    """Converts by an Apache Beam pipeline, whose runner and workers `options` choose; all of them must see `out` and the source.

    Raises:
        ImportError: Apache Beam is not installed.
        ValueError: the folder holds something else, an option does not suit the data, or an episode cannot be used.
    """
    if not begin(job, out):
        return
    with pipeline("a conversion", options) as running:
        import apache_beam as beam

        written = (
            running | "parts" >> beam.Create(range(job.parts)) | "spread" >> beam.Reshuffle() | "write" >> beam.Map(write_part, job, out)
        )
        _ = (
            running
            | "all parts" >> beam.Create([job])
            | "count" >> beam.FlatMap(shares, beam.pvalue.AsList(written))
            | "spread again" >> beam.Reshuffle()
            | "place" >> beam.Map(place_part, job, out)
        )
    finish(job, out)
