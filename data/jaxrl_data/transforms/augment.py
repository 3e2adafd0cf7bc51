"""Images and observations made different each time, in training alone.

On a robot, which has no action in its sample, nothing is made up: shifts, colours and dropout do nothing, and a crop takes the middle, so
that the policy sees the scale that it was trained on. Every camera has randomness of its own; all frames of a history, and the goal image
of the same camera, are changed alike.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from jaxrl_data.transforms.images import frames_of, resized
from jaxrl_data.transforms.interface import Sample, Spec
from jaxrl_data.transforms.keys import camera, pictures, stream, trained


def _each(
    sample: Sample,
    cameras: tuple[str, ...],
    random: np.random.Generator,
    draw: Callable[[np.random.Generator], Callable[[np.ndarray], np.ndarray]],
) -> Sample:
    """Every image through what `draw` makes of its camera's randomness: the same draws for each key of one camera."""
    keys = pictures(sample, cameras)
    generators = stream(random, tuple({camera(key) for key in keys}))
    changes = {name: draw(generator) for name, generator in generators.items()}
    return {**sample, **{key: np.stack([changes[camera(key)](frame) for frame in frames_of(sample, key)]) for key in keys}}


@dataclass(frozen=True)
class Crop:
    """A part of the image, `share` of its area at a random place, in the image's size again; on a robot, the part in the middle."""

    share: float = 0.9
    cameras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"Crop: share is {self.share}, but is a part of the area, above 0 and at most 1")

    def _cut(self, frame: np.ndarray, down: float, across: float) -> np.ndarray:
        """`down` and `across`, 0 to 1, are where the part is."""
        height, width = frame.shape[:2]
        rows, columns = (max(1, round(side * self.share**0.5)) for side in (height, width))
        top, left = round(down * (height - rows)), round(across * (width - columns))
        return resized(frame[top : top + rows, left : left + columns], height, width)

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        def draw(own: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
            down, across = own.random(2) if trained(sample) else (0.5, 0.5)
            return lambda frame: self._cut(frame, down, across)

        return _each(sample, self.cameras, random, draw)

    def inverse(self, sample: Sample) -> Sample:
        return sample

    def spec(self, before: Spec) -> Spec:
        return before


@dataclass(frozen=True)
class Shift:
    """Moved by up to `pixels` each way; what comes in repeats the border. Yarats et al. 2021, "Image Augmentation Is All You Need"."""

    pixels: int = 4
    cameras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels < 0:
            raise ValueError(f"Shift: pixels is {self.pixels}, but is not negative")

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        if not trained(sample):
            return sample

        def draw(own: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
            down, across = own.integers(-self.pixels, self.pixels + 1, 2)

            def moved(frame: np.ndarray) -> np.ndarray:
                height, width = frame.shape[:2]
                wide = cv2.copyMakeBorder(frame, *(self.pixels,) * 4, cv2.BORDER_REPLICATE).reshape(
                    height + 2 * self.pixels, -1, frame.shape[2]
                )
                top, left = self.pixels - down, self.pixels - across
                return wide[top : top + height, left : left + width]

            return moved

        return _each(sample, self.cameras, random, draw)

    def inverse(self, sample: Sample) -> Sample:
        return sample

    def spec(self, before: Spec) -> Spec:
        return before


_GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in tf.image
_TO_YIQ = np.array([_GREY, [0.59590059, -0.27455667, -0.32134392], [0.21153661, -0.52273617, 0.31119955]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


def colour_matrix(mean: np.ndarray, brightness: float, contrast: float, saturation: float, hue: float) -> np.ndarray:
    """[3, 4] that takes red, green, blue, 1 to the changed three: first brightness, then contrast about `mean` [3], saturation and hue."""
    turn = 2 * np.pi * hue
    rotation = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    mixed = saturation * np.eye(3) + (1 - saturation) * np.tile(_GREY, (3, 1))
    linear = _FROM_YIQ @ rotation @ _TO_YIQ @ mixed
    lit = mean + 255 * brightness
    offset = linear @ (lit + contrast * (255 * brightness - lit))
    return np.concatenate((contrast * linear, offset[:, None]), axis=1)


@dataclass(frozen=True)
class ColourJitter:
    """Another light: brightness by up to this part of white, contrast and saturation by factors up to this much off 1, hue by turns.

    One affine change of the three colours, rounded and clipped once; tf.image clips after every one of the four.
    """

    brightness: float = 0.1
    contrast: float = 0.1
    saturation: float = 0.1
    hue: float = 0.05
    cameras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "hue"):
            value, most = getattr(self, name), 0.5 if name == "hue" else 1.0
            if not 0 <= value <= most:
                raise ValueError(f"ColourJitter: {name} is {value}, but is between 0 and {most}")

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        if not trained(sample):
            return sample

        def draw(own: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
            off = own.uniform(-1, 1, 4) * (self.brightness, self.contrast, self.saturation, self.hue)

            def lit(frame: np.ndarray) -> np.ndarray:
                mean = np.array(cv2.mean(frame)[:3])
                matrix = colour_matrix(mean, off[0], 1 + off[1], 1 + off[2], off[3])
                return cv2.transform(frame, matrix).reshape(frame.shape)

            return lit

        return _each(sample, self.cameras, random, draw)

    def inverse(self, sample: Sample) -> Sample:
        return sample

    def spec(self, before: Spec) -> Spec:
        return before


@dataclass(frozen=True)
class ProprioceptionDropout:
    """With this probability each state group is 0 and not present, so that a policy learns to look. Comes behind what normalises."""

    probability: float
    groups: tuple[str, ...] = ()  # none named: all

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"ProprioceptionDropout: probability is {self.probability}, but is between 0 and 1")

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        if not trained(sample):
            return sample
        start = "observation/state/"
        groups = [key.removeprefix(start) for key in sample if key.startswith(start)]
        groups = [group for group in groups if not self.groups or group in self.groups]
        generators = stream(random, tuple(groups))
        changed = dict(sample)
        for group in groups:
            if generators[group].random() < self.probability:
                for key in (f"{start}{group}", f"present/state/{group}"):
                    if key in sample:
                        changed[key] = np.zeros_like(sample[key])
        return changed

    def inverse(self, sample: Sample) -> Sample:
        return sample

    def spec(self, before: Spec) -> Spec:
        return before
