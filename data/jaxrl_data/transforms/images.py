"""Images out of their files and into one size."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cv2
import numpy as np

from jaxrl.types import ArraySpec
from jaxrl_data.transforms.interface import Sample, Spec
from jaxrl_data.transforms.keys import DEPTH, camera, pictures, room

_COLOUR = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION  # as stored: the orientation that a phone notes is not looked at
_REDUCED = {  # beside _COLOUR, of colours too
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a JPEG behind which its size stands
_TAIL = 64  # bytes behind the end of an image that some writers leave


def _whole(encoded: bytes) -> str:
    """What is wrong with an encoded image; OpenCV itself fills what is cut off with grey, and says nothing."""
    if encoded[:2] == b"\xff\xd8":
        return "" if b"\xff\xd9" in encoded[-_TAIL:] else "a JPEG that is cut off"
    if encoded[:8] == b"\x89PNG\r\n\x1a\n":
        return "" if b"IEND" in encoded[-_TAIL:] else "a PNG that is cut off"
    return "neither JPEG nor PNG"


def jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    """Height and width that a JPEG tells; None where it cannot be found, or this is none."""
    at = 2
    while encoded[:2] == b"\xff\xd8" and at + 9 <= len(encoded) and encoded[at] == 0xFF:
        if encoded[at + 1] in _FRAME:
            return int.from_bytes(encoded[at + 5 : at + 7], "big"), int.from_bytes(encoded[at + 7 : at + 9], "big")
        at += 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
    return None


def decoded(encoded: bytes, depth: bool = False, part: int = 1) -> np.ndarray:
    """uint8 [height, width, 3] in the order red, green, blue; of depth [height, width, 1] as it is stored. Raises ValueError on damage.

    Depth is uint16, or float32 where the four channels of a PNG are the four bytes of a number, as TFDS writes it. `part` 2, 4 or 8 is a
    JPEG at one `part` of its size, rounded up: fewer of its frequencies are looked at, which is faster and smooths as means do.
    """
    wrong = _whole(encoded)
    image = None
    if not wrong:
        how = cv2.IMREAD_UNCHANGED if depth else _COLOUR | _REDUCED.get(part, 0)
        try:
            image = cv2.imdecode(np.frombuffer(encoded, np.uint8), how)
        except cv2.error as error:
            raise ValueError(f"an image of {len(encoded)} bytes cannot be decoded: {error.err}") from error
    if image is None:
        raise ValueError(f"an image of {len(encoded)} bytes cannot be decoded: it is {wrong or 'damaged'}")
    if depth and image.ndim == 3 and image.shape[2] == 4:
        image = np.ascontiguousarray(image[..., [2, 1, 0, 3]]).view(np.float32)
    return image[..., None] if image.ndim == 2 else image


@cache
def _taps(scale: float, block: int) -> np.ndarray:
    """The filter before samples are taken `scale` apart, between neighbours: with it, they weigh as wide a neighbourhood as antialias does.

    That is a triangle of `scale` to each side, variance scale^2 / 6, less what taking samples between neighbours gives by itself, 1 / 6,
    and less that of means of `block` pixels, of which one is one apart here.
    """
    variance = max(0.0, (scale**2 - 1) / 6 - (1 - block**-2) / 12)
    if variance <= 0.5:
        return np.array([variance / 2, 1 - variance, variance / 2], np.float32)
    half = (6 * variance) ** 0.5
    reach = int(half)
    weights = half - np.abs(np.arange(-reach, reach + 1))
    return (weights / weights.sum()).astype(np.float32)


def _block(rows: int, columns: int, height: int, width: int) -> int:
    """The greatest number of pixels, on both sides, whose means are still not fewer than asked for."""
    return next(size for size in range(max(1, min(rows // height, columns // width)), 0, -1) if not (rows % size or columns % size))


def _smaller(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Ready to be sampled: means of blocks first, which are fast, and then a filter for what is left."""
    rows, columns = image.shape[:2]
    block = _block(rows, columns, height, width)
    if block > 1:
        image = cv2.resize(image, (columns // block, rows // block), interpolation=cv2.INTER_AREA)
    down, across = (_taps(max(1.0, before / after), block) for before, after in zip(image.shape[:2], (height, width), strict=True))
    return image if max(down.min(), across.min()) <= 0 else cv2.sepFilter2D(image, -1, across, down, borderType=cv2.BORDER_REFLECT_101)


def resized(image: np.ndarray, height: int, width: int, depth: bool = False, into: np.ndarray | None = None) -> np.ndarray:
    """[height, width, channels] of the same dtype: smoothed where it shrinks and linear between neighbours; the nearest of depth.

    Faster than OpenCV's INTER_AREA, and nearer to tf.image.resize with antialias. Written `into` an array of the result's shape where one
    is given: a large new one costs more than resizing does.
    """
    out = np.empty((height, width, image.shape[2]), image.dtype) if into is None else into
    if (image.shape[0], image.shape[1]) == (height, width):
        out[...] = image
    elif depth:
        cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_NEAREST)
    else:
        cv2.resize(_smaller(image, height, width), (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    return out


def _inner(rows: int, columns: int, height: int, width: int) -> tuple[int, int]:
    """As large as fits with the proportions kept."""
    ratio = min(height / rows, width / columns)
    return min(height, max(1, int(rows * ratio + 1e-6))), min(width, max(1, int(columns * ratio + 1e-6)))


def padded(image: np.ndarray, height: int, width: int, depth: bool = False, into: np.ndarray | None = None) -> np.ndarray:
    """As large as fits with its proportions kept, in the middle of black; as `resized` otherwise."""
    down, across = _inner(image.shape[0], image.shape[1], height, width)
    top, left = (height - down) // 2, (width - across) // 2
    out = np.empty((height, width, image.shape[2]), image.dtype) if into is None else into
    if (down, across) != (height, width):
        out[:top], out[top + down :], out[:, :left], out[:, left + across :] = 0, 0, 0, 0
    resized(image, down, across, depth, out[top : top + down, left : left + across])
    return out


@dataclass(frozen=True)
class Resize:
    """Every image of `cameras`, or of all where none is named, and its goal images and depth, in one size.

    uint8 in, uint8 out. Beside tf.image.resize with antialias, images of 640 x 480 of a real robot differ by 0.3 of 255 on average at
    256 x 256 and by 0.6 at 64 x 64 (tests/data/test_image_transforms.py holds them to 0.5 and 1); where an image grows, by rounding.
    """

    height: int
    width: int
    pad: bool = False  # whether proportions are kept, black at two sides
    cameras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"Resize: {self.height} x {self.width} is no size of an image")

    def inner(self, rows: int, columns: int) -> tuple[int, int]:
        """Height and width that an image of this size takes in the result."""
        return _inner(rows, columns, self.height, self.width) if self.pad else (self.height, self.width)

    def of(self, key: str) -> bool:
        """Whether this is an image of its cameras."""
        return not self.cameras or camera(key) in self.cameras

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        one, changed = padded if self.pad else resized, {}
        for key in pictures(sample, self.cameras, depth=True):
            frames = frames_of(sample, key)
            shape = (len(frames), self.height, self.width, frames.shape[3])
            out = room(sample, key, shape, frames.dtype)
            for frame, place in zip(frames, out, strict=True):
                one(frame, self.height, self.width, key.startswith(DEPTH), place)
            changed[key] = out
        return {**sample, **changed}

    def inverse(self, sample: Sample) -> Sample:
        return sample

    def spec(self, before: Spec) -> Spec:
        changed = {}
        for key in pictures(before, self.cameras, depth=True):
            if before[key].dtype == "bytes":
                raise ValueError(f"Resize: {key} is still encoded; Decode comes first")
            changed[key] = replace(before[key], shape=(before[key].shape[0], self.height, self.width, *(before[key].shape[3:] or (1,))))
        return {**before, **changed}


@dataclass(frozen=True)
class Decode:
    """JPEG and PNG to arrays [history, height, width, channels]. What is an array already stays; an empty image is one black pixel.

    JPEGs come at a half, a quarter or an eighth of their size where that is still as large as what is made of them, `then`. Of images of
    640 x 480 at 256 x 256 this is as near to TensorFlow's decoding and resizing as whole ones are, 0.8 of 255 on average.

    Raises ValueError that names the episode, the step and the camera where an image is damaged, or those of a history differ in size.
    """

    bgr: tuple[str, ...] = ()  # cameras that were stored blue first
    then: Resize | None = None

    def _decoded(self, encoded: bytes, key: str) -> np.ndarray:
        part = 1
        if self.then is not None and self.then.of(key) and not key.startswith(DEPTH) and (size := jpeg_size(encoded)):
            down, across = self.then.inner(*size)
            part = next((one for one in (8, 4, 2) if size[0] // one >= down and size[1] // one >= across), 1)
        return decoded(encoded, key.startswith(DEPTH), part)

    def _frames(self, frames: Any, key: str, name: str) -> np.ndarray:
        depth = key.startswith(DEPTH)
        found: list[np.ndarray | None] = []
        for index, encoded in enumerate(frames):
            try:
                found.append(self._decoded(encoded, key) if encoded else None)
            except ValueError as error:
                raise ValueError(f"{name}: {camera(key)}, frame {index} of the history: {error}") from error
        kinds = {(one.shape, one.dtype) for one in found if one is not None}
        if len(kinds) > 1:
            raise ValueError(f"{name}: {camera(key)} changes its size within a history, {sorted(shape for shape, _ in kinds)}")
        shape, dtype = kinds.pop() if kinds else ((1, 1, 1 if depth else 3), np.dtype(np.uint16 if depth else np.uint8))
        whole = [np.zeros(shape, dtype) if one is None else one for one in found]
        stacked = whole[0][None] if len(whole) == 1 else np.stack(whole)
        return np.ascontiguousarray(stacked[..., ::-1]) if camera(key) in self.bgr and not depth else stacked

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        name = sample.get("name", "observation")
        keys = (key for key in pictures(sample, (), depth=True) if not isinstance(sample[key], np.ndarray))
        return {**sample, **{key: self._frames(sample[key], key, name) for key in keys}}

    def inverse(self, sample: Sample) -> Sample:
        return sample

    def spec(self, before: Spec) -> Spec:
        changed = {}
        for key in pictures(before, (), depth=True):
            if before[key].dtype == "bytes":
                depth = key.startswith(DEPTH)
                shape = (*before[key].shape, "height", "width", 1 if depth else 3)
                changed[key] = ArraySpec(shape, "uint16" if depth else "uint8")
        return {**before, **changed}


def frames_of(sample: Sample, key: str) -> np.ndarray:
    """[history, height, width, channels]. Raises ValueError where the entry is still encoded."""
    frames = sample[key]
    if not isinstance(frames, np.ndarray):
        raise ValueError(f"{sample.get('name', 'observation')}: {key} is still encoded; Decode comes before what changes pixels")
    return frames if frames.ndim == 4 else frames[..., None]
