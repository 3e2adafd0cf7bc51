"""The frames of one episode out of a video file that may hold many, as encoded images."""

from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
from etils import epath

from jaxrl_data.encode import jpeg, png
from jaxrl_data.stored import readable

DEEP = ("gray10", "gray12", "gray14", "gray16")  # beginnings of pixel formats that JPEG cannot hold


def count(path: epath.Path) -> int:
    """Frames, as the container tells; 0 where it does not."""
    with _open(path) as container:
        return int(container.streams.video[0].frames)


def frames(path: epath.Path, times: np.ndarray, tolerance: np.ndarray | float) -> list[bytes]:
    """The frame nearest to each of the times [s], which ascend, in one pass from the key frame before the first.

    Raises:
        ValueError: none is within the tolerance [s], or the file ends before. The message names the row.
        OSError, av.FFmpegError: the file is damaged.
    """
    if len(times) == 0:
        return []
    if (np.diff(times) < 0).any():
        raise ValueError("times go back inside the episode")
    tolerance = np.broadcast_to(tolerance, times.shape)
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"  # several episodes are read at a time elsewhere
        if times[0] > 0:
            container.seek(int(max(times[0] - tolerance[0], 0) / stream.time_base), stream=stream, backward=True)
        decoded = container.decode(stream)
        first = next(decoded, None)
        if times[0] > 0 and (first is None or first.time is None or first.time > times[0] + tolerance[0]):
            container.seek(0, stream=stream)  # an index that leads behind: from the beginning then
            decoded = container.decode(stream)
            first = next(decoded, None)
        if first is None:
            raise ValueError("the video holds no frame there")
        return _nearest(_chain(first, decoded), times, tolerance)


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _nearest(decoded: Iterator[Any], times: np.ndarray, tolerance: np.ndarray) -> list[bytes]:
    """Holds two frames at a time."""
    found: list[bytes] = []
    before, frame = None, next(decoded, None)
    encode = _encoder(frame)
    last: tuple[Any, bytes] | None = None
    for row, time in enumerate(times):
        while frame is not None and frame.time < time:
            before, frame = frame, next(decoded, None)
        near = [one for one in (before, frame) if one is not None]
        best = min(near, key=lambda one: abs(one.time - time))
        if abs(best.time - time) > tolerance[row]:
            end = "; the video ends there" if frame is None else ""
            raise ValueError(
                f"row {row} is at {time:.6f} s in the video, but the nearest frame is at {best.time:.6f} s, "
                f"further than {tolerance[row]:.1e} s{end}; check fps and timestamps, or record the episode anew"
            )
        if last is None or last[0] is not best:
            last = (best, encode(best))
        found.append(last[1])
    return found


def _encoder(frame: Any) -> Callable[[Any], bytes]:
    if frame.format.name.startswith(DEEP):
        return lambda one: png(one.to_ndarray(format="gray16le"))
    return lambda one: jpeg(one.to_ndarray(format="bgr24"))


def _open(path: epath.Path) -> Any:
    return av.open(readable(path))
