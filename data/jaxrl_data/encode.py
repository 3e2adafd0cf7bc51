"""Frames that come decoded, encoded again: readers hand out encoded images only."""

from typing import Any

import numpy as np

QUALITY = 95  # of JPEG: what a video has lost already is more


def png(image: np.ndarray) -> bytes:
    """uint8 or uint16 [height, width, 1, 3 or 4], or [height, width], without loss."""
    import cv2

    channels = image.shape[2] if image.ndim == 3 else 1
    if channels > 1:
        image = cv2.cvtColor(np.ascontiguousarray(image), {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[channels])
    return _written(".png", image, [])


def jpeg(image: np.ndarray) -> bytes:
    """uint8 [height, width, 3] with blue first, as video decoders can give it: OpenCV has it so."""
    import cv2

    return _written(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def _written(kind: str, image: np.ndarray, options: list[int]) -> bytes:
    import cv2

    done, data = cv2.imencode(kind, image, options)
    if not done:
        raise ValueError(f"an image {image.dtype} {image.shape} cannot be encoded as {kind}")
    return bytes(data)


def whole_numbers(images: np.ndarray, dtype: str) -> np.ndarray:
    """Images that are stored as floats with the values of `dtype`. Raises ValueError where they are others, such as 0 to 1."""
    if images.dtype == dtype:
        return images
    limit = np.iinfo(dtype).max
    whole = images.astype(dtype) if np.isfinite(images).all() and images.min() >= 0 and images.max() <= limit else None
    if whole is None or not np.array_equal(whole, images):
        raise ValueError(
            f"has images of {images.dtype} from {images.min():g} to {images.max():g}, but whole numbers from 0 to {limit} were expected; "
            f"store them as {dtype}"
        )
    return whole


def is_image(kind: Any) -> bool:
    """Whether bytes begin as a JPEG or PNG does."""
    return bytes(kind[:3]) == b"\xff\xd8\xff" or bytes(kind[:8]) == b"\x89PNG\r\n\x1a\n"
