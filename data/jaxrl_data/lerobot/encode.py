"""Videos of a LeRobot data set: one per episode and camera is encoded, and several are joined without encoding them again."""

import io
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

KEY_FRAMES = 2  # every other frame: a random frame costs two decoded ones
QUALITY = {"libsvtav1": {"crf": "30", "preset": "8"}, "libx264": {"crf": "23", "preset": "medium", "bf": "0"}}
# Without B frames (bf) a frame is stored when it is shown, and videos can be joined as they are.


def picture(image: bytes) -> np.ndarray:
    """[height, width, 3] uint8 of an encoded one."""
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))


def encode(path: Path, images: Sequence[bytes], fps: int, codec: str, size: Sequence[int | None], where: str) -> None:
    """Writes an mp4 whose frame t is image t, at t / fps seconds. `size` is the height and width of the camera, None for those of image 0.

    Raises:
        ValueError: an image has another size, or the height or width is odd.
    """
    os.environ.setdefault("SVT_LOG", "1")  # errors only: libsvtav1 prints its settings for each video otherwise
    height, width = (told or found for told, found in zip(size, picture(images[0]).shape[:2], strict=True))
    if height % 2 or width % 2:
        raise ValueError(f"{where}: is {height} x {width}, and yuv420p needs even numbers; crop the images or store them as images")
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream(codec, rate=fps, options=QUALITY[codec] | {"g": str(KEY_FRAMES)})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.time_base = Fraction(1, fps)
        for step, image in enumerate(images):
            array = picture(image)
            if array.shape[:2] != (height, width):
                raise ValueError(f"{where}: step {step} is {array.shape[0]} x {array.shape[1]}, and not {height} x {width}; resize it")
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts, frame.time_base = step, Fraction(1, fps)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def join(path: Path, parts: Sequence[Path], frames: Sequence[int], fps: int) -> None:
    """Writes one mp4 of all parts, of which each has that many frames, by copying what is encoded."""
    with av.open(str(path), "w", format="mp4") as file:
        stream: Any = None
        before = 0
        for part, count in zip(parts, frames, strict=True):
            with av.open(str(part)) as source:
                video = source.streams.video[0]
                if stream is None:
                    stream = file.add_stream_from_template(video, opaque=True)  # by its format: the decoder is no encoder
                    stream.time_base = Fraction(1, fps)
                found = 0
                for packet in source.demux(video):
                    if packet.pts is None or packet.dts is None:  # the demuxer's last one, which is empty
                        continue
                    base = video.time_base or Fraction(1, fps)
                    packet.pts = before + round(packet.pts * base * fps)
                    packet.dts = before + round(packet.dts * base * fps)
                    packet.duration, packet.time_base, packet.stream = 1, Fraction(1, fps), stream
                    file.mux(packet)
                    found += 1
            if found != count:
                raise ValueError(
                    f"{part}: has {found} frames instead of {count}; delete the folder {part.parent} and write the episode again"
                )
            before += count


def canonical(codec: str) -> str:
    """What a codec writes, by the name that info.json tells."""
    return str(av.Codec(codec, "w").canonical_name)


def video_info(path: Path, fps: int) -> dict[str, Any]:
    """What info.json tells of a camera's videos."""
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        return {
            "video.height": video.height,
            "video.width": video.width,
            "video.codec": video.codec.canonical_name,
            "video.pix_fmt": video.pix_fmt,
            "video.is_depth_map": False,
            "video.fps": fps,
            "video.channels": 3,
            "has_audio": False,
        }
