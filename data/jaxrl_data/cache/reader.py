"""A prepared cache read as any other data set, from its first episode to its last."""

from collections.abc import Iterable, Iterator

from jaxrl_data.cache.store import Store, open_store
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, Features, chosen


def splits(path: str) -> tuple[str, ...]:
    """The one that was prepared."""
    return (open_store(path).split,)


def episode_of(store: Store, number: int, features: Features | None = None) -> Episode:
    """An episode of a cache, whole or with the columns of `features`. Raises BadEpisode where its files are damaged."""
    steps = range(int(store.lengths[number]))
    wanted = features or store.features
    try:
        told = store.told(number)
        return Episode(
            name=told["name"],
            arrays=store.arrays(number, tuple(wanted.arrays)),
            images={name: store.images(number, name, steps) for name in wanted.images},
            texts={name: store.texts(number, name, steps) for name in wanted.texts},
            metadata=told["metadata"],
        )
    except (OSError, ValueError) as error:
        raise BadEpisode(number, f"{store.name}, episode {number}: {error}") from error


def read(path: str, split: str) -> Dataset:
    """All episodes of the cache at `path`."""
    store = open_store(path)

    def episodes(first: int, last: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
        wanted = chosen(store.features, columns)
        for number in range(first, last):
            yield episode_of(store, number, wanted)

    return Dataset(store.name, split, store.features, len(store.lengths), episodes, store.fingerprint)
