"""What `jaxrl data` does: one function per sub-command, and the words it takes."""

import argparse
import math
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, NamedTuple

from etils import epath
from rich.table import Table

from jaxrl.types import ArraySpec
from jaxrl_data import configured, planning, writing
from jaxrl_data.console import add_path, bytes_text, console, opened, progress
from jaxrl_data.dataset import Dataset, only
from jaxrl_data.episode import Features, length
from jaxrl_data.findings import ERROR, failed, table
from jaxrl_data.open import open_dataset, splits
from jaxrl_data.statistics import Column, Statistics, Summary, merge, ranges, save, statistics
from jaxrl_data.streaming.statistics import summary_of
from jaxrl_data.validate import validate

SHOWN = 64  # dimensions of a column


class Command(NamedTuple):
    """One sub-command."""

    purpose: str
    add_arguments: Callable[[argparse.ArgumentParser], Any]
    run: Callable[[argparse.Namespace], int]  # -> exit status


def main(arguments: Sequence[str], experiment: planning.Load | None = None) -> int:
    """Runs a sub-command; returns its exit status. What is wrong with the data is raised as ValueError or OSError.

    `experiment` reads an experiment file, with overrides such as --config.source.batch_size=512, for `info --plan` and `stats --config`.
    """
    parser = argparse.ArgumentParser(prog="jaxrl data", description="Looks at data sets of robot episodes: RLDS, LeRobot, zarr, HDF5.")
    added = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(added.add_parser(name, help=command.purpose, description=command.purpose))
    options, overrides = parser.parse_known_args(arguments)
    reads = getattr(options, "plan", None) or getattr(options, "config", None)
    if overrides and not (reads and all(word.startswith("--config.") for word in overrides)):
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    options.overrides, options.experiment = overrides, experiment
    return COMMANDS[options.command].run(options)


# info


def _info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", help="folder or file of the data set, local or in a cloud")
    parser.add_argument("--plan", metavar="CONFIG", help="experiment file: what training from it will draw and hold in memory")
    parser.add_argument("--hosts", type=int, help="that share each batch of the plan; by default one")
    parser.add_argument("--quick", action="store_true", help="metadata only: steps and hours, which need one pass, are left out")


def info(options: argparse.Namespace) -> int:
    """Splits with their sizes, and what each step holds; or what training from a config will hold."""
    if bool(options.path) == bool(options.plan):
        raise ValueError("info takes the path of a data set, or --plan and an experiment file")
    if options.plan:
        for shown in planning.told(_experiment(options, options.plan), 1 if options.hosts is None else options.hosts):
            console().print(shown)
        return 0
    if options.hosts is not None:
        raise ValueError("--hosts: has no effect without --plan; leave it out")
    out, first = console(), None
    sizes = Table("split", "episodes", "steps", "hours", "shortest", "longest", "fingerprint", title=options.path, title_justify="left")
    for name in splits(options.path):
        dataset = open_dataset(options.path, name)
        first = first or dataset
        sizes.add_row(name, f"{dataset.size:,}", *(("-",) * 4 if options.quick else _lengths(dataset)), dataset.fingerprint[:16])
    if first is None:
        raise ValueError(f"{options.path}: has no splits")
    out.print(sizes)
    out.print(_features(first.features))
    rate = first.features.rate
    out.print(
        f"{first.name}: {f'{rate:g} steps per second' if rate > 0 else 'rate not known'}, {bytes_text(_stored(epath.Path(options.path)))}"
    )
    return 0


def _lengths(dataset: Dataset) -> tuple[str, str, str, str]:
    """Steps, hours, shortest and longest episode."""
    steps, shortest, longest = 0, math.inf, 0
    with progress(f"reading {dataset.split}", dataset.size) as advance:
        for episode in only(dataset, dataset.features.names[:1]).read(0, dataset.size):  # one column tells them, an array if there is one
            found = length(episode)
            steps, shortest, longest = steps + found, min(shortest, found), max(longest, found)
            advance(1)
    rate = dataset.features.rate
    return f"{steps:,}", f"{steps / rate / 3600:.2f}" if rate > 0 else "-", f"{shortest:g}", f"{longest}"


def _features(features: Features) -> Table:
    shown = Table("column", "type", "shape", "unit", "names")
    for name, spec in features.arrays.items():
        shown.add_row(name, spec.dtype, _shape(spec), spec.unit, ", ".join(spec.names))
    for name, spec in features.images.items():
        shown.add_row(name, f"image, {spec.dtype}", _shape(spec), "", "")
    for name in features.texts:
        shown.add_row(name, "text", "", "", "")
    return shown


def _shape(spec: ArraySpec) -> str:
    return " x ".join(map(str, spec.shape))


def _stored(path: epath.Path) -> int:
    """Bytes of all files below."""
    if not path.is_dir():
        return int(path.stat().length)
    return sum(_stored(one) for one in path.iterdir())


# stats


def _stats_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, optional=True)
    parser.add_argument("--config", help="experiment file: those of its sets that training needs, each where training looks for it")
    parser.add_argument("--out", help="file to write them to, as JSON")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the episodes; the result is the same")
    parser.add_argument("--standard", default="", help="row of the table of Open X-Embodiment by which columns are standardised first")
    parser.add_argument("--validation", type=float, default=0.0, help="share of the episodes that training holds out, which are left out")
    parser.add_argument("--floor", type=float, default=1e-3, help="range below which a dimension is marked, in the unit of its column")


def stats(options: argparse.Namespace) -> int:
    """Statistics of all columns of floats, as they are stored or standardised; or those that a config needs."""
    if bool(options.path) == bool(options.config):
        raise ValueError("stats takes the path of a data set, or --config and an experiment file")
    if options.config:
        return _stats_of_config(options)
    if options.workers < 1:
        raise ValueError(f"--workers is {options.workers}, but must be at least 1")
    if not 0 <= options.validation < 1:
        raise ValueError(f"--validation is {options.validation}, but must be at least 0 and below 1")
    if options.out and epath.Path(options.out).is_dir():
        raise ValueError(f"--out {options.out}: is a folder, and should be the file to write; name one in it, such as statistics.json")
    done = (options.standard, options.validation)
    dataset = opened(options)
    with progress(f"reading {dataset.split}", dataset.size) as advance:
        if options.workers == 1:
            summary = summary_of(dataset, *done, advance=advance)
        else:
            summary = _shared_out(options.path, dataset.split, dataset.size, options.workers, done, advance)
    held = statistics(summary)
    _show(held, f"{dataset.name}, {dataset.split}", options.floor)
    if options.out:
        save(options.out, held)
        console().print(f"written to {options.out}")
    return 0


def _stats_of_config(options: argparse.Namespace) -> int:
    """Of each set; for caches they lie beside them, for other sets where the config says."""
    for word in ("out", "standard", "validation"):
        if getattr(options, word):
            raise ValueError(f"--{word}: has no effect with --config, which tells it; leave it out")
    for name, size, make in configured.statistics_needed(_experiment(options, options.config).source):
        with progress(f"reading {name}", size) as advance:
            held, path = make(advance)
        _show(held, name, options.floor)
        console().print(f"written to {path}")
    return 0


def _experiment(options: argparse.Namespace, config: str) -> planning.Experiment:
    if options.experiment is None:
        raise ValueError(f"{config}: is an experiment file, which only `jaxrl data` reads")
    found: planning.Experiment = options.experiment(config, options.overrides)
    return found


def _show(held: Statistics, name: str, floor: float) -> None:
    out = console()
    for column in held.columns:
        out.print(_statistics(column, held.columns[column], floor))
    out.print(f"{held.episodes:,} episodes, {held.steps:,} steps of {name}; data {held.fingerprint[:16]}")
    out.print(_exactness(held))


def _part(path: str, split: str, done: tuple[str, float], first: int, last: int) -> tuple[Summary, int]:
    """What a process of its own does."""
    return summary_of(open_dataset(path, split), *done, first=first, last=last), last - first


def _shared_out(path: str, split: str, size: int, workers: int, done: tuple[str, float], advance: Callable[[int], None]) -> Summary:
    parts = min(size, 4 * workers)
    edges = [size * part // parts for part in range(parts + 1)]
    merged: Summary | None = None
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_part, path, split, done, first, last) for first, last in zip(edges, edges[1:], strict=False)]
        for job in as_completed(jobs):
            summary, episodes = job.result()
            merged = summary if merged is None else merge(merged, summary)
            advance(episodes)
    if merged is None:
        raise ValueError(f"{path}: {split} has no episodes")
    return merged


def _statistics(name: str, column: Column, floor: float) -> Table:
    fields = ("mean", "std", "min", "q01", "q50", "q99", "max")
    heading = f"{name}{f' ({column.unit})' if column.unit else ''}: {column.steps:,} steps"
    shown = Table("dimension", *fields, "", title=heading, title_justify="left")
    for field in fields:
        shown.columns[1 + fields.index(field)].justify = "right"
    floored, constant = set(ranges(column, floor).floored), set(column.constant)
    for place, dimension in enumerate(column.names[:SHOWN]):
        mark = "constant" if dimension in constant else f"q99 - q01 below {floor:g}" if dimension in floored else ""
        shown.add_row(dimension.replace("[", r"\["), *(f"{getattr(column, field)[place]:.5g}" for field in fields), mark)
    if len(column.names) > SHOWN:
        shown.add_row(f"and {len(column.names) - SHOWN} more")
    return shown


def _exactness(held: Statistics) -> str:
    from jaxrl_data.sketch import rank_error

    worst = {at: max(rank_error(at, column.kept, column.steps) for column in held.columns.values()) for at in (0.01, 0.5)}
    if not worst[0.5]:
        return "quantiles are exact"
    return f"quantiles: ranks within {100 * worst[0.01]:.2f} % of the steps at q01 and q99, {100 * worst[0.5]:.2f} % at the median"


# validate


def _validate_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, split=False)
    parser.add_argument("--no-images", action="store_true", help="leave out what only the pixels tell: no video is decoded")


def check(options: argparse.Namespace) -> int:
    """Everything that is wrong, as a table; 1 if there are errors."""
    try:
        total = sum(open_dataset(options.path, split).size for split in splits(options.path))
    except FileNotFoundError:
        raise
    except (ValueError, OSError):
        total = None  # what is wrong is a finding
    with progress("checking", total) as advance:
        findings = validate(options.path, advance, images=not options.no_images)
    out = console()
    if findings:
        out.print(table(findings))
    errors = sum(one.severity == ERROR for one in findings)
    out.print(f"{options.path}: errors: {errors}, warnings: {len(findings) - errors}" if findings else f"{options.path}: nothing found")
    return 1 if failed(findings) else 0


# view


def _view_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser)
    parser.add_argument("--episodes", default="0", help="such as 3, or 0:8 for the first eight")
    parser.add_argument("--out", default="runs/episodes", help="folder that pictures and videos go to")
    parser.add_argument("--frames", type=int, default=8, help="images of a camera in a picture")
    parser.add_argument("--no-video", action="store_true", help="pictures only")


def view(options: argparse.Namespace) -> int:
    """A picture and a video of each episode that was asked for."""
    from jaxrl_data.view import save_picture, save_video

    if options.frames < 1:
        raise ValueError(f"--frames is {options.frames}, but must be at least 1")
    if (folder := epath.Path(options.out)).exists() and not folder.is_dir():
        raise ValueError(f"--out {options.out}: is a file, and should be a folder; choose another one")
    dataset = opened(options)
    first, last = _range(options.episodes, dataset)
    made = []
    with progress("drawing", last - first) as advance:
        for number, episode in enumerate(dataset.read(first, last), first):
            stem = f"{dataset.name.replace('/', '_')}_{dataset.split}_{number:06d}"
            made.append(str(folder / f"{stem}.png"))
            save_picture(made[-1], episode, dataset.features, options.frames)
            if not options.no_video:
                made.append(str(folder / f"{stem}.mp4"))
                save_video(made[-1], episode, dataset.features)
            advance(1)
    for name in made:
        print(name)
    return 0


def _range(text: str, dataset: Dataset) -> tuple[int, int]:
    start, colon, end = text.partition(":")
    try:
        first = int(start or 0)
        last = first + 1 if not colon else int(end or dataset.size)
    except ValueError:
        raise ValueError(f"--episodes is {text!r}, but should be a number, such as 3, or a range, such as 0:8") from None
    if not 0 <= first < last <= dataset.size:
        raise ValueError(f"--episodes is {text}, but {dataset.name} {dataset.split} has the episodes 0 to {dataset.size - 1}")
    return first, last


COMMANDS = {
    "info": Command("show what a data set holds: splits, episodes, columns, rate, bytes", _info_arguments, info),
    "stats": Command("mean, deviation, extremes and quantiles of a split", _stats_arguments, stats),
    "validate": Command("find what is wrong with a data set; the exit status is 1 if there are errors", _validate_arguments, check),
    "prepare": Command("make a cache, from which training reads any step at once", writing.prepare_arguments, writing.prepare),
    "convert": Command("write a data set as RLDS or LeRobot", writing.convert_arguments, writing.convert),
    "view": Command("draw episodes: cameras and curves, as picture and video", _view_arguments, view),
}
