"""An episode as people look at it: a picture of its cameras and curves, and a video in which a line runs along the curves."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from jaxrl.types import ArraySpec
from jaxrl_data.cameras import decoded
from jaxrl_data.checks import NOT_NORMALISED, last_word
from jaxrl_data.episode import Episode, Features, length

DRAWN = 32  # dimensions of a column; more, such as an embedding, are no curves to look at
HEIGHT = 240  # of a camera in the video
CODECS = ("libx264", "mpeg4")  # some builds of PyAV lack the first


def picture(episode: Episode, features: Features, frames: int = 8) -> Figure:
    """A strip of `frames` images per camera, then the curves of action and state with names and units; the instruction is the title."""
    steps = length(episode)
    shown = np.unique(np.linspace(0, steps - 1, min(frames, steps)).round().astype(int))
    curves = drawn(episode)
    heights = [1.2] * len(episode.images) + [2.0] * len(curves)
    figure = Figure(figsize=(12, 1 + sum(heights or [1.0])), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title(episode, features), fontsize=11, wrap=True)
    parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0] if heights else []
    for part, (name, images) in zip(parts, sorted(episode.images.items()), strict=False):
        axes = part.subplots(1, len(shown), squeeze=False)[0]
        for one, place in zip(axes, shown, strict=True):
            one.imshow(_visible(images[int(place)], features.images.get(name)))
            one.set(xticks=[], yticks=[], xlabel=_time(int(place), features.rate))
        axes[0].set_ylabel(last_word(name), rotation=0, ha="right", va="center")
    for part, name in zip(parts[len(episode.images) :], curves, strict=True):
        _curves(part.subplots(), name, episode, features)
    return figure


def title(episode: Episode, features: Features) -> str:
    """The instruction, where there is one, and what is shown."""
    said = next((text for texts in episode.texts.values() for text in texts if text.strip()), "")
    steps, rate = length(episode), features.rate
    told = f"{episode.name}: {steps} steps" + (f", {steps / rate:.1f} s at {rate:g} Hz" if rate > 0 else "")
    omitted = [name for name, array in episode.arrays.items() if array.dtype.kind == "f" and _width(array) > DRAWN]
    told += f"; without {', '.join(omitted)} of more than {DRAWN} dimensions" if omitted else ""
    return (f"{said}\n{told}" if said else told).replace("$", r"\$")  # no formulas


def drawn(episode: Episode) -> list[str]:
    """Columns of floats that are drawn: actions first."""
    names = [
        name
        for name, array in episode.arrays.items()
        if array.dtype.kind == "f" and last_word(name) not in NOT_NORMALISED and 0 < _width(array) <= DRAWN
    ]
    return sorted(names, key=lambda name: ("action" not in name, name))


def _width(array: np.ndarray) -> int:
    return int(np.prod(array.shape[1:], dtype=int))


def _time(step: int, rate: float) -> str:
    return f"{step / rate:.1f} s" if rate > 0 else f"step {step}"


def _curves(axes: Axes, name: str, episode: Episode, features: Features, named: int = DRAWN) -> None:
    """One line per dimension, against time where the rate is known. No more than `named` of them get names."""
    rows = episode.arrays[name].reshape(length(episode), -1)
    spec = features.arrays.get(name, ArraySpec(()))
    units = [unit.strip() for unit in spec.unit.split(",")]
    names = spec.names if len(spec.names) == rows.shape[1] else tuple(map(str, range(rows.shape[1])))
    each = len(units) == rows.shape[1] > 1
    times = np.arange(len(rows)) / (features.rate or 1)
    for place, dimension in enumerate(names):
        label = f"{dimension} [{units[place]}]" if each and units[place] else dimension
        axes.plot(times, rows[:, place], linewidth=1, label=label.replace("$", r"\$"))
    axes.set_xlim(times[0], times[-1] if len(times) > 1 else 1)
    axes.set_xlabel("time [s]" if features.rate > 0 else "step")
    axes.set_ylabel(last_word(name) + (f" [{units[0]}]" if len(units) == 1 and units[0] else ""))
    if len(names) <= named:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7, ncols=1 + len(names) // 10, frameon=False)


def _visible(image: bytes, spec: ArraySpec | None) -> np.ndarray:
    """uint8 [height, width, 3]; black where there is no image. Depth is scaled to its largest value."""
    if not len(image):
        sizes = [size if isinstance(size, int) else 64 for size in (spec.shape[:2] if spec is not None else (64, 64))]
        return np.zeros((*sizes, 3), np.uint8)
    pixels = decoded(image)
    if pixels.dtype != np.uint8:
        pixels = (pixels.astype(np.float64) * (255 / max(int(pixels.max()), 1))).astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]


def save_picture(path: str | os.PathLike[str], episode: Episode, features: Features, frames: int = 8) -> None:
    """As PNG, or what else the name ends in."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    picture(episode, features, frames).savefig(path, dpi=100)


def save_video(path: str | os.PathLike[str], episode: Episode, features: Features) -> None:
    """An mp4 at the episode's rate (10 Hz where it is not known): cameras side by side, above the curves and a line that is now.

    One frame at a time is in memory. Raises ValueError: there is neither a camera nor a curve. OSError: it cannot be written.
    """
    if not episode.images and not drawn(episode):
        raise ValueError(f"{episode.name}: has neither cameras nor curves that could be shown")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    _encode(Path(path), _frames(episode, features), Fraction(features.rate or 10).limit_denominator(1001))


def _frames(episode: Episode, features: Features) -> Iterator[np.ndarray]:
    """uint8 [height, width, 3], of even sizes."""
    plot, columns = None, np.zeros(0, int)
    for step in range(length(episode)):
        rows = []
        if episode.images:
            views = [_scaled(_visible(images[step], features.images.get(name))) for name, images in sorted(episode.images.items())]
            rows.append(np.concatenate(views, axis=1))
        if drawn(episode):
            if plot is None:
                plot, columns = _plot(episode, features, max(rows[0].shape[1] if rows else 0, 640))
            marked = plot.copy()
            marked[:, columns[step]] = (200, 0, 0)
            rows.append(marked)
        wide = max(row.shape[1] for row in rows)
        frame = np.concatenate([np.pad(row, ((0, 0), (0, wide - row.shape[1]), (0, 0))) for row in rows])
        yield np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)))


def _scaled(image: np.ndarray) -> np.ndarray:
    width = max(1, round(image.shape[1] * HEIGHT / image.shape[0]))
    return np.asarray(Image.fromarray(image).resize((width, HEIGHT), Image.Resampling.BILINEAR))


def _plot(episode: Episode, features: Features, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The curves as an image [_, width, 3], and at which column of it each step is."""
    names = drawn(episode)
    figure = Figure(figsize=(width / 100, 1.6 * len(names)), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]
    for one, name in zip(axes, names, strict=True):
        _curves(one, name, episode, features, named=10)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    times = np.arange(length(episode)) / (features.rate or 1)
    columns = axes[0].transData.transform(np.stack([times, np.zeros_like(times)], axis=1))[:, 0]
    return image, np.clip(columns.round().astype(int), 0, image.shape[1] - 1)


def _encode(path: Path, frames: Iterator[np.ndarray], rate: Fraction) -> None:
    import av

    part = path.with_name(f".{path.name}.part")
    encoder = next((name for name in CODECS if name in av.codecs_available), None)
    if encoder is None:
        raise OSError(f"this build of PyAV has none of the encoders {', '.join(CODECS)}: pip install --force-reinstall av")
    with av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream: Any = container.add_stream(encoder, rate=rate)
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(frames):
            if number == 0:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    part.replace(path)
