"""Writes the data sets of LeRobot's golden check, see lerobot_reads.py."""

import sys
from pathlib import Path

import numpy as np

from jaxrl.types import ArraySpec
from jaxrl_data.episode import Episode, Features
from jaxrl_data.lerobot.writer import lerobot_writer
from jaxrl_data.recorder import recorder
from jaxrl_data.writer import encoded

CODECS = ("libx264", "libsvtav1", "image")
RECORDED = "recorded"  # what a recorder writes, step by step, by names of an environment
CAMERA = "observation.images.top"
FEATURES = Features(
    arrays={
        "observation.state": ArraySpec((3,), names=("shoulder", "elbow", "gripper")),
        "observation.pose": ArraySpec((2, 2), "float64"),
        "action": ArraySpec((2,), "float64"),
        "next.reward": ArraySpec(()),
        "count": ArraySpec((), "uint64"),
        "flag": ArraySpec((), "bool"),
    },
    images={CAMERA: ArraySpec(("height", "width", 3), "uint8")},
    texts=("task", "note"),
)


def episode(place: int) -> Episode:
    """Of 4 + place steps: the same on every machine."""
    random, steps = np.random.default_rng(place), 4 + place
    arrays = {
        "observation.state": random.normal(size=(steps, 3)).astype(np.float32),
        "observation.pose": random.normal(size=(steps, 2, 2)),
        "action": random.normal(size=(steps, 2)),
        "next.reward": random.normal(size=steps).astype(np.float32),
        "count": np.arange(steps, dtype=np.uint64) + 2**62,
        "flag": np.arange(steps) % 2 == 0,
    }
    row, column = np.mgrid[:64, :96]
    images = [encoded(np.stack([column + 20 * t, row, 0 * row + 60 * place], -1).astype(np.uint8)) for t in range(steps)]
    texts = {"task": ["lift" if place != 1 else "put it ünder"] * steps, "note": [f"step {t}" for t in range(steps)]}
    return Episode(f"episode {place}", arrays, {CAMERA: images}, texts, {"operator": "x", "numbers": [1, 2.5], "place": place})


def write(folder: Path, codec: str) -> None:
    """Three episodes by a writer and a fourth by another one, so that there are two files of each kind."""
    for places in ((0, 1, 2), (3,)):
        writer = lerobot_writer(str(folder), FEATURES, 10, "arm", codec=codec)
        for place in places:
            writer.add(episode(place))
        writer.close()


def write_recorded(folder: Path) -> None:
    """The steps of the first two episodes, as a simulator or robot gives them."""
    arrays = {
        "observation/state/joints": FEATURES.arrays["observation.state"],
        "action": FEATURES.arrays["action"],
        "reward": ArraySpec(()),
    }
    features = Features(arrays, {"observation/image/top": ArraySpec((64, 96, 3), "uint8")}, ("language_instruction",), rate=10.0)
    writer = recorder(str(folder), "lerobot", features, "arm", codec="libx264")
    for place in (0, 1):
        one = episode(place)
        writer.begin(one.name)
        rows = zip(*(one.arrays[name] for name in ("observation.state", "action", "next.reward")), strict=True)
        for row, image, text in zip(rows, one.images[CAMERA], one.texts["task"], strict=True):
            given = dict(zip(arrays, row, strict=True))
            writer.step(given, {"observation/image/top": image}, {"language_instruction": text})
        writer.end(place == 1)
    writer.close()


if __name__ == "__main__":
    for name in CODECS:
        write(Path(sys.argv[1]) / name, name)
    write_recorded(Path(sys.argv[1]) / RECORDED)
