"""What LeRobot itself reads of a data set: run by a Python that has LeRobot (0.4.4), which the tests have not.

    python -m tests.golden.lerobot_written DIR           # with jaxrl: writes the data sets of the golden check, one per way to store images
    python tests/golden/lerobot_reads.py DIR/*/ > tests/golden/lerobot_reads.json     # with LeRobot

`tests/data/test_lerobot_writer.py` compares what is written today with what LeRobot read then.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import library as operators

library = operators.Library("torchvision", "DEF")  # where torchvision's compiled part does not fit torch, its import asks for these
for signature in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "qnms(Tensor a, Tensor b, float c) -> Tensor"):
    try:
        library.define(signature)
    except RuntimeError:  # it does fit
        pass

import av  # noqa: E402
import torchvision  # noqa: E402
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402


class Reader:
    """What torchvision.io.VideoReader was, which newer ones lack: LeRobot's backend "pyav" asks for it. Times are those of the file."""

    def __init__(self, path: str, kind: str) -> None:
        self.container = av.open(path)

    def seek(self, time: float, keyframes_only: bool) -> None:
        self.container.seek(int(time * av.time_base))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for frame in self.container.decode(video=0):
            yield {"pts": frame.time, "data": torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)}


if not hasattr(torchvision.io, "VideoReader"):
    torchvision.io.VideoReader = Reader
    torchvision.set_video_backend = lambda backend: None


def reads(path: str) -> dict[str, Any]:
    """Counts, every step (numbers as they are, of images the mean colour), episodes by themselves, and windows that reach beyond them."""
    data = LeRobotDataset("local/golden", root=path, video_backend="pyav")
    steps = []
    for place in range(len(data)):
        step = {}
        for name, value in data[place].items():
            if isinstance(value, str):
                step[name] = value
            elif name in data.meta.camera_keys:
                step[name] = {"shape": list(value.shape), "mean": _colour(value)}
            else:
                step[name] = value.tolist()
        steps.append(step)
    counts = {name: getattr(data, name) for name in ("num_episodes", "num_frames", "fps")}
    counts |= {"cameras": data.meta.camera_keys, "robot_type": data.meta.robot_type, "episodes": _episodes(path, data)}
    return counts | {"steps": steps, "windows": _windows(path, data), "stats": _plain(data.meta.stats)}


def _episodes(path: str, data: LeRobotDataset) -> list[dict[str, Any]]:
    """Of each: its rows among all, and what a data set of it alone holds."""
    found = []
    for one in data.meta.episodes:
        alone = LeRobotDataset("local/golden", root=path, video_backend="pyav", episodes=[one["episode_index"]])
        rows = {"from": one["dataset_from_index"], "to": one["dataset_to_index"], "length": one["length"], "tasks": one["tasks"]}
        found.append(rows | {"index": [alone[place]["index"].item() for place in range(len(alone))]})
    return found


def _windows(path: str, data: LeRobotDataset) -> list[dict[str, Any]]:
    """From one step before to one behind the last step of each episode: actions, colours of the first camera, what is padded."""
    camera, around = data.meta.camera_keys[0], [-1 / data.fps, 0.0, 1 / data.fps]
    windows = LeRobotDataset("local/golden", root=path, video_backend="pyav", delta_timestamps={"action": around, camera: around})
    found = []
    for one in data.meta.episodes:
        step = windows[one["dataset_to_index"] - 1]
        colours = [_colour(image) for image in step[camera]]
        found.append({"action": step["action"].tolist(), "colours": colours, "padded": step["action_is_pad"].tolist()})
    return found


def _colour(image: Any) -> list[float]:
    return [round(float(one), 3) for one in image.double().mean((1, 2))]


def _plain(value: Any) -> Any:
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value.tolist()


if __name__ == "__main__":
    print(json.dumps({Path(path).name: reads(path) for path in sys.argv[1:]}, indent=None, sort_keys=True))
