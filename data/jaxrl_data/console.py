"""What the sub-commands of `jaxrl data` have in common: words, a bar, and room for tables."""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxrl_data.dataset import Dataset
from jaxrl_data.open import open_dataset, splits

REFRESH = 0.2  # [s], of bars


def add_path(parser: argparse.ArgumentParser, split: bool = True, optional: bool = False) -> None:
    """The words that most sub-commands take."""
    parser.add_argument("path", nargs="?" if optional else None, help="folder or file of the data set, local or in a cloud")
    if split:
        parser.add_argument("--split", help="such as train; without it train, or the first there is")


def opened(options: argparse.Namespace) -> Dataset:
    """The split that `add_path` asked for."""
    names = splits(options.path)
    return open_dataset(options.path, options.split or ("train" if "train" in names else names[0]))


def console() -> Console:
    """Of results. What is not a terminal has room for whole tables."""
    found = Console()
    return found if found.is_terminal else Console(width=160)


def bytes_text(size: float) -> str:
    """Such as 3.4 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.4g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"


@contextlib.contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on the error stream; yields a function that moves it on by a number of episodes."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # No thread of its own: while tensorflow-datasets is being imported, imports in other threads fail (etils' lazy_imports).
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task, shown = bar.add_task(what, total=total), [0.0]

        def advance(episodes: int) -> None:
            bar.advance(task, episodes)
            if time.monotonic() - shown[0] > REFRESH:
                bar.refresh()
                shown[0] = time.monotonic()

        yield advance
