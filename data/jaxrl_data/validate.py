"""Finds what is wrong with a data set: in its files, where its format has checks of its own, and in its episodes."""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from etils import epath

from jaxrl_data.checks import check_dataset, overlap
from jaxrl_data.dataset import Dataset, without_images
from jaxrl_data.findings import Finding, collect, error
from jaxrl_data.open import FORMATS, open_dataset, splits


def validate(
    what: str | Dataset | Sequence[Dataset], advance: Callable[[int], Any] = lambda episodes: None, images: bool = True
) -> tuple[Finding, ...]:
    """Errors first; an empty tuple where nothing was found.

    `what` is a path, all of whose splits are read once, or data sets that are splits of one. `advance` is told of episodes that were read.
    Without `images` no pixels are looked at, and episodes that differ in nothing else count as the same.
    Memory: a hash per episode, and what the reader holds. Raises FileNotFoundError or ValueError: there is no data set of a known format.
    """
    if isinstance(what, str):
        return collect(_of_path(what, advance, images))
    return collect(_of_datasets((what,) if isinstance(what, Dataset) else what, advance, images))


def _of_path(path: str, advance: Callable[[int], Any], images: bool) -> Iterator[Finding]:
    at = epath.Path(path)
    for one in FORMATS:
        own = one.module.rpartition(".")[0] + ".validate"
        if at.exists() and one.recognises(at) and find_spec(own):
            yield from import_module(own).files(at)
            break
    try:
        opened = [open_dataset(path, split) for split in splits(path)]
    except FileNotFoundError:
        raise
    except (ValueError, OSError) as fault:
        yield error("cannot be opened", path, "", "a data set of a known format and version", str(fault))
        return
    yield from _of_datasets(opened, advance, images)


def _of_datasets(datasets: Sequence[Dataset], advance: Callable[[int], Any], images: bool) -> Iterator[Finding]:
    hashes: dict[str, dict[int, str]] = {}
    for one in datasets:
        yield from check_dataset(one if images else without_images(one), hashes.setdefault(one.split, {}), advance)
    yield from overlap(hashes)
