"""Video files against what metadata say of them. Packets are counted, nothing is decoded."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from etils import epath

from jaxrl_data.findings import Finding, error, warning

_CODECS = {"avc1": "h264", "libx264": "h264", "h265": "hevc", "libx265": "hevc", "libsvtav1": "av1", "libaom-av1": "av1", "libdav1d": "av1"}


class Expected(NamedTuple):
    """Of one file."""

    frames: int  # rows of all episodes in it
    end: float  # [s], where the last of them ends; 0 where that is not told
    fps: float
    shape: tuple[int, ...]  # of an image, in any order of axes
    info: dict[str, Any]  # what the feature tells of its encoding


def check_video(file: epath.Path, camera: str, expected: Expected) -> Iterator[Finding]:
    """Codec, size, rate and number of frames."""
    import av

    where = str(file)
    try:
        with file.open("rb") as opened, av.open(opened) as container:
            if not container.streams.video:
                yield error("damaged video", where, camera, "a stream of video", "none")
                return
            stream = container.streams.video[0]
            context = stream.codec_context
            codec, width, height = context.codec.canonical_name, context.width, context.height
            rate = float(stream.average_rate or 0)
            frames, damaged = 0, ""
            try:
                for packet in container.demux(stream):
                    frames += int(packet.size > 0)
                    damaged = damaged or ("a packet is corrupt" if packet.is_corrupt else "")
            except (av.FFmpegError, OSError) as fault:
                damaged = str(fault)
    except (av.FFmpegError, OSError) as fault:
        yield error("damaged video", where, camera, "a video that was closed", str(fault))
        return
    if not width or not height:
        yield error("damaged video", where, camera, "a video that was closed", "a header without a size")
        return
    if damaged:
        yield error("damaged video", where, camera, f"{expected.frames} whole frames", f"{frames}, then: {damaged}")
    elif frames != expected.frames:
        yield error("frame count", where, camera, f"{expected.frames} frames, as many as rows", str(frames))
    elif expected.end * expected.fps > frames + 0.5:
        yield error("video range", where, camera, f"an episode that ends by {frames / expected.fps:.4f} s", f"{expected.end:.4f} s")
    declared = str(expected.info.get("video.codec") or codec)
    if _CODECS.get(declared, declared) != codec:
        yield warning("codec", where, camera, f"{declared}, as info.json says", codec)
    if abs(rate - expected.fps) > 0.01 * expected.fps:
        yield error("rate", where, camera, f"{expected.fps:g} frames per second", f"{rate:g}")
    sizes = [expected.info[key] for key in ("video.height", "video.width") if key in expected.info]
    if expected.shape and not {height, width} <= set(expected.shape) or (len(sizes) == 2 and sizes != [height, width]):
        yield error("image shape", where, camera, f"height and width of {list(expected.shape)}", f"{height} x {width}")
