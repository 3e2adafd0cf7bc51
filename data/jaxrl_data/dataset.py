"""A data set as it lies on disk: its episodes in stored order."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from jaxrl_data.episode import Episode, Features


class Dataset(NamedTuple):
    """One split of one data set. Readers make it; nothing is read before `read` is called."""

    name: str  # such as "bridge_dataset/1.0.0"
    split: str  # such as "train"; "all" where a format has no splits
    features: Features
    size: int  # episodes
    read: Callable[[int, int], Iterator[Episode]]
    # (first, last) -> episodes first to last - 1, in order, few of them in memory at a time. Raises BadEpisode; go on by a new call
    fingerprint: str  # of what is stored, whatever its path: another one means other data
    files: tuple[int, ...] = ()  # episodes up to the end of each file, where one is only read from its beginning
