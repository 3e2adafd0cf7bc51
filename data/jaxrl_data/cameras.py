"""What the pixels of a camera tell: black, missing, damaged, of another size, and whether its flag lies.

Three images of each episode are looked at, the first, the middle and the last.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from jaxrl.types import ArraySpec
from jaxrl_data.findings import Finding, error, warning

BLACK = 8  # of 255: what a black JPEG may come out as
NAMED = 16  # episodes; the others are counted


@dataclass
class Camera:
    """What was seen of one camera so far."""

    episodes: int = 0
    black: list[str] = field(default_factory=list)  # names of episodes, NAMED at most
    blacks: int = 0
    flagged_absent: int = 0  # but there are pixels
    flagged_present: int = 0  # but there are none
    first_lie: str = ""


def places(length: int) -> list[int]:
    """First, middle and last."""
    return sorted({0, length // 2, length - 1})


def decoded(image: bytes) -> np.ndarray:
    """[height, width, channels], uint8 or, of depth, uint16. Raises OSError: it is damaged."""
    with Image.open(io.BytesIO(image)) as opened:
        pixels = np.asarray(opened)
    if pixels.dtype == np.int32:  # how pillow gives 16 bits
        pixels = pixels.astype(np.uint16)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def look(camera: Camera, where: str, name: str, images: Sequence[bytes], spec: ArraySpec, flag: bool | None) -> Iterator[Finding]:
    """Findings of one episode; the rest is for `conclude`."""
    camera.episodes += 1
    black, told = True, set()
    for place in places(len(images)):
        finding, dark = _image(where, name, place, images, spec)
        black = black and dark
        if finding is not None and finding.fault not in told and not (finding.fault == "missing image" and flag is False):
            told.add(finding.fault)
            yield finding
    if black:
        camera.blacks += 1
        camera.black += [where] if len(camera.black) < NAMED else []
    if flag is not None and flag == black:
        camera.flagged_present += int(flag)
        camera.flagged_absent += int(not flag)
        camera.first_lie = camera.first_lie or where


def _image(where: str, name: str, place: int, images: Sequence[bytes], spec: ArraySpec) -> tuple[Finding | None, bool]:
    """What is wrong with one image, and whether it shows nothing."""
    try:
        image = images[place]
        if not len(image):
            return error("missing image", where, name, "an image at each step", f"none at step {place}"), True
        pixels = decoded(image)
    except (OSError, ValueError) as fault:
        return error("damaged image", where, name, "an image that can be decoded", f"step {place}: {fault}"), False
    dark = bool(pixels.max() <= (BLACK if pixels.dtype == np.uint8 else 0))
    if len(spec.shape) == pixels.ndim and all(not isinstance(a, int) or a == b for a, b in zip(spec.shape, pixels.shape, strict=True)):
        return None, dark
    return error("image shape", where, name, str(spec.shape), f"{pixels.shape} at step {place}"), dark


def conclude(camera: Camera, where: str, name: str) -> Iterator[Finding]:
    """What can be told of all episodes."""
    if camera.blacks == camera.episodes:
        yield warning("black camera", where, name, "pixels; leave this camera out", f"black in all {camera.episodes} episodes")
    else:
        for episode in camera.black:
            yield warning("black in an episode", episode, name, "pixels, as in other episodes", "black; mask the camera there")
        if camera.blacks > len(camera.black):
            yield warning("black in an episode", where, name, "pixels", f"black in {camera.blacks} of {camera.episodes} episodes in all")
    for lies, says, is_so in ((camera.flagged_absent, "absent", "has pixels"), (camera.flagged_present, "present", "is black")):
        if lies:
            found = f"it {is_so} in {lies} of {camera.episodes} episodes that flag it as {says}, such as {camera.first_lie}"
            yield warning("flag against pixels", where, name, "flags that are true; go by the pixels", found)
