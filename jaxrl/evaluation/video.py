"""Frames to a video file."""

import itertools
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.files import written_whole

# H.264 plays in every browser; a build of PyAV without it still has the older MPEG-4, which most players know.
CODECS = ("libx264", "mpeg4")


def _encoder() -> str:
    import av

    for name in CODECS:
        try:
            av.codec.Codec(name, "w")
        except av.codec.codec.UnknownCodecError:
            continue
        return name
    raise RuntimeError(f"this build of PyAV has none of the encoders {', '.join(CODECS)}: pip install --force-reinstall av")


def _even(frame: np.ndarray) -> np.ndarray:
    """The frame with its last row and column repeated where their number is odd: 4:2:0 colour needs even sizes."""
    rows, columns = frame.shape[0] % 2, frame.shape[1] % 2
    return np.pad(frame, ((0, rows), (0, columns), (0, 0)), mode="edge") if rows or columns else frame


def write_mp4(frames: Iterable[np.ndarray], path: str | os.PathLike[str], fps: float) -> str:
    """Writes uint8 frames [height, width, 3] as an mp4 and returns the encoder's name: libx264, or mpeg4 where PyAV lacks it.

    Frames are taken one by one, so they need not fit into memory together. Odd sizes are padded by one row or column.

    Raises:
        ValueError: no frames, frames of another type or of different sizes, or an fps that is not positive.
        OSError: the file cannot be written.
    """
    path, whole = Path(path), iter(frames)
    if not fps > 0:
        raise ValueError(f"fps is {fps}, but must be positive")
    first = next(whole, None)
    if first is None:
        raise ValueError(f"no frames for {path}")
    encoder = _encoder()
    with written_whole(path) as part:
        _encode(itertools.chain([first], whole), part, encoder, Fraction(fps).limit_denominator(1001))
    return encoder


def _encode(frames: Iterable[np.ndarray], path: Path, encoder: str, rate: Fraction) -> None:
    import av

    shape: tuple[int, ...] | None = None
    # faststart: the index comes first, so that a browser plays before it has loaded everything.
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream: Any = container.add_stream(encoder, rate=rate)
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(map(np.asarray, frames)):
            if shape is None:
                shape = frame.shape
            if frame.shape != shape or len(shape) != 3 or shape[2] != 3 or frame.dtype != np.uint8:
                raise ValueError(f"frame {number} is {frame.dtype} {frame.shape}; all must be uint8 [height, width, 3] of one size")
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(_even(frame)), format="rgb24")
            if number == 0:
                stream.width, stream.height = image.width, image.height
            container.mux(stream.encode(image))
        container.mux(stream.encode())
