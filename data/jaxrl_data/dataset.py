"""A data set as it lies on disk: its episodes in stored order."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from jaxrl_data.episode import Episode, Features, chosen


class Dataset(NamedTuple):
    """One split of one data set. Readers make it; nothing is read before `read` is called."""

    name: str  # such as "bridge_dataset/1.0.0"
    split: str  # such as "train"; "all" where a format has no splits
    features: Features
    size: int  # episodes
    read: Callable[..., Iterator[Episode]]
    # (first, last, columns=None) -> episodes first to last - 1, in order, few of them in memory at a time. With names of columns it gives
    # those alone, and does not open or decode what holds the others. Raises BadEpisode; go on by a new call
    fingerprint: str  # of what is stored, whatever its path: another one means other data
    files: tuple[int, ...] = ()  # episodes up to the end of each file, where one is only read from its beginning


def only(dataset: Dataset, columns: Iterable[str]) -> Dataset:
    """The same episodes with these columns alone. Raises ValueError: one is not there."""
    features = chosen(dataset.features, columns)
    if features.names == dataset.features.names:
        return dataset

    def read(first: int, last: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
        return dataset.read(first, last, chosen(features, columns).names)

    return dataset._replace(features=features, read=read)


def without_images(dataset: Dataset) -> Dataset:
    """The same episodes without images: no video is opened."""
    if not dataset.features.images:
        return dataset
    return only(dataset, (*dataset.features.arrays, *dataset.features.texts))
