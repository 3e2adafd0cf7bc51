"""`jaxrl data prepare` and `jaxrl data convert`: what writes data sets."""

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

from jaxrl_data import parts
from jaxrl_data.cache import prepare as caches
from jaxrl_data.console import add_path, console, opened, progress
from jaxrl_data.dataset import Dataset, only
from jaxrl_data.episode import without_columns
from jaxrl_data.origin import read_origin
from jaxrl_data.recorder import write


def prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `prepare`."""
    add_path(parser)
    parser.add_argument("--out", required=True, help="folder of the cache")
    _without_argument(parser)
    parser.add_argument("--processes", type=int, help="that write at once; by default one for each core")
    parser.add_argument("--quarantine", action="store_true", help="leave bad episodes out and list them, instead of ending at the first")
    _beam_argument(parser)


def prepare(options: argparse.Namespace) -> int:
    """Makes a cache, or goes on with one that was cut."""
    if options.beam is not None:
        _refuse(options, ("processes",), "--beam, whose runner tells it")
    dataset = opened(options)
    plan = caches.plan(options.path, dataset.split, options.without)
    if options.beam is not None:
        found = caches.prepare_on_beam(plan, options.out, options.quarantine, _pipeline_options(options.beam))
    else:
        processes = os.cpu_count() or 1 if options.processes is None else options.processes
        with progress(f"preparing {dataset.name}, shards", plan.shards) as advance:
            found = caches.prepare(plan, options.out, processes, options.quarantine, _steps(advance))
    out = console()
    for one in found.left_out:
        out.print(f"left out: {one.reason}", style="red", highlight=False, markup=False)
    out.print(f"{options.out}: {found.episodes:,} episodes, {found.steps:,} steps of {dataset.name}, split {dataset.split}")
    return 1 if found.left_out else 0


def _without_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--without", nargs="+", action="extend", default=[], metavar="COLUMN", help="columns that are left out")


def _refuse(options: argparse.Namespace, names: Sequence[str], where: str) -> None:
    """Options that have no effect there."""
    for name in names:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')}: has no effect with {where}; leave it out")


def _beam_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--beam", nargs="*", metavar="OPTION", help="run as an Apache Beam pipeline with these options, without dashes")


def _pipeline_options(words: list[str]) -> Any:
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise ImportError("--beam needs Apache Beam: pip install 'jaxrl[beam]'") from error
    return PipelineOptions([f"--{word.lstrip('-')}" for word in words])


def convert_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `convert`."""
    add_path(parser)
    parser.add_argument("--out", required=True, help="folder of the new data set")
    parser.add_argument("--to", required=True, choices=("rlds", "lerobot"), help="its format: RLDS, or LeRobot 3.0")
    parser.add_argument("--name", help="of the new RLDS data set; by default that of the old one")
    _without_argument(parser)
    parser.add_argument("--codec", help="of LeRobot's videos: libsvtav1 (the default), libx264, or image, which keeps every pixel")
    parser.add_argument("--robot-type", help="that LeRobot is told; by default unknown")
    parser.add_argument("--fps", type=int, help="steps per second for LeRobot, where the data set does not tell them")
    _beam_argument(parser)


def convert(options: argparse.Namespace) -> int:
    """Writes a data set in another format, or goes on with one that was cut."""
    _refuse(options, ("codec", "robot_type", "fps") if options.to == "rlds" else ("name",), f"--to {options.to}")
    dataset, origin = opened(options), read_origin(options.path)
    if options.to == "rlds":
        split = "train" if dataset.split == "all" else dataset.split
        told = {"name": options.name or dataset.name.partition("/")[0], "split": split}
    else:
        given = {"robot_type": options.robot_type, "fps": options.fps, "codec": options.codec}
        told = {"robot_type": "unknown", "fps": 0, "codec": "libsvtav1"} | {name: one for name, one in given.items() if one is not None}
    if options.beam is not None:
        job = parts.job(options.path, options.to, told, dataset.split, options.without)
        parts.convert_on_beam(job, options.out, _pipeline_options(options.beam))
    else:
        kept = only(dataset, without_columns(dataset.features, options.without).names)
        with progress(f"writing {dataset.name}, episodes", dataset.size) as advance:
            parts.FORMATS[options.to].write(kept, options.out, origin=origin, progress=_steps(advance), **told)
    console().print(f"{options.out}: {dataset.size:,} episodes of {dataset.name}, split {dataset.split}")
    return 0


def record(dataset: Dataset, out: str, to: str, fps: int, codec: str) -> None:
    """What `jaxrl eval --record` plays goes to the folder `out`, behind what an interrupted recording has written there."""
    options = {"codec": codec, "fps": fps} if to == "lerobot" else {}
    with progress(f"recording {dataset.name}, episodes", dataset.size) as advance:
        written = write(dataset, out, to, progress=_steps(advance), **options)  # type: ignore[arg-type]
    before = f", {dataset.size - written:,} of which were there" if written < dataset.size else ""
    console().print(f"{out}: {dataset.size:,} episodes of {dataset.name}{before}")


def _steps(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """Tells a bar how far it has moved, of how far it is."""
    told = [0]

    def moved(ready: int, of: int) -> None:
        advance(ready - told[0])
        told[0] = ready

    return moved
