"""A prepared cache read as any other data set, from its first episode to its last."""

from collections.abc import Iterator

from jaxrl_data.cache.store import Store, open_store
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode


def splits(path: str) -> tuple[str, ...]:
    """The one that was prepared."""
    return (open_store(path).split,)


def episode_of(store: Store, number: int) -> Episode:
    """A whole episode of a cache. Raises BadEpisode where its files are damaged."""
    steps = range(int(store.lengths[number]))
    try:
        told = store.told(number)
        return Episode(
            name=told["name"],
            arrays=store.arrays(number, tuple(store.features.arrays)),
            images={name: store.images(number, name, steps) for name in store.features.images},
            texts={name: store.texts(number, name, steps) for name in store.features.texts},
            metadata=told["metadata"],
        )
    except (OSError, ValueError) as error:
        raise BadEpisode(number, f"{store.name}, episode {number}: {error}") from error


def read(path: str, split: str) -> Dataset:
    """All episodes of the cache at `path`."""
    store = open_store(path)

    def episodes(first: int, last: int) -> Iterator[Episode]:
        for number in range(first, last):
            yield episode_of(store, number)

    return Dataset(store.name, split, store.features, len(store.lengths), episodes, store.fingerprint)
