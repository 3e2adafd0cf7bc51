"""Small data sets for tests, made in memory."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from jaxrl.types import ArraySpec
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import BadEpisode, Episode, Features, chosen, with_columns

FEATURES = Features(
    arrays={"state": ArraySpec((3,), names=("x", "y", "z"), unit="m"), "action": ArraySpec((2,)), "count": ArraySpec((), "int64")},
    images={"front": ArraySpec((8, 12, 3), "uint8")},
    texts=("task",),
    rate=10.0,
)


def picture(number: int) -> np.ndarray:
    """[8, 12, 3] uint8, another one for each number."""
    return np.random.default_rng(number).integers(0, 256, (8, 12, 3), np.uint8)


def png(image: np.ndarray) -> bytes:
    """Encoded without loss."""
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def episode(number: int, length: int) -> Episode:
    """Step t of episode e has the count 1000 e + t, of which all else follows."""
    count = 1000 * number + np.arange(length)
    return Episode(
        name=f"episode {number}",
        arrays={
            "state": np.stack([count, -count, np.sin(count)], -1).astype(np.float32),
            "action": np.stack([np.cos(count), count / 7], -1).astype(np.float32),
            "count": count.astype(np.int64),
        },
        images={"front": [png(picture(n)) for n in count]},
        texts={"task": [f"task {number % 3}"] * length},
        metadata={"operator": number % 2},
    )


def dataset(lengths: tuple[int, ...], bad: tuple[int, ...] = (), name: str = "made/1.0.0") -> Dataset:
    """Episodes of these lengths, some of which cannot be read."""

    def read(first: int, last: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
        for number in range(first, last):
            if number in bad:
                raise BadEpisode(number, f"{name}, episode {number}: state is not there")
            yield with_columns(episode(number, lengths[number]), chosen(FEATURES, columns))

    return Dataset(name, "train", FEATURES, len(lengths), read, f"fingerprint of {lengths}")
