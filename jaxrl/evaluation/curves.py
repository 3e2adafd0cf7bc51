"""The learning curve of a run as a picture."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

COLOURS = ("#2a6f97", "#e07a5f", "#3d9970", "#8e6bbf", "#c9a227", "#5f6c7b")


class Axis(NamedTuple):
    """What a column has on its x axis: a field of the records and how many of it are one unit of the label."""

    field: str
    unit: float
    label: str


AXES = {
    "minutes": Axis("seconds", 60.0, "minutes of training"),
    "env_steps": Axis("env_steps", 1e6, "million environment steps"),
    "updates": Axis("update", 1.0, "updates"),
}


class Line(NamedTuple):
    """One seed of one metric over the updates; NaN where nothing was reported."""

    update: np.ndarray
    seconds: np.ndarray
    env_steps: np.ndarray
    value: np.ndarray


def read_records(path: str | os.PathLike[str], kind: str = "training") -> list[dict[str, Any]]:
    """The records of one kind in a file of JSON lines; a last line that was cut off is left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line in the middle is no JSON.
    """
    records = []
    lines = Path(path).read_text().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{path}, line {number}: no JSON: {line[:60]}") from error
    return [record for record in records if record.get("kind") == kind]


def _line(records: Sequence[Mapping[str, Any]], name: str) -> Line:
    columns = (*Line._fields[:-1], name)
    return Line(*(np.array([math.nan if record.get(c) is None else record[c] for record in records], np.float64) for c in columns))


def _lines(files: Sequence[Sequence[Mapping[str, Any]]], name: str) -> list[Line]:
    """One line per seed, whether the seeds are files or, in one file, `<name>/seed_<i>`."""
    lines = []
    for records in files:
        seeds = sorted({key for record in records for key in record if key.startswith(f"{name}/seed_")})
        lines += [_line(records, key) for key in (seeds or [name])]
    return [line for line in lines if np.isfinite(line.value).any()]


def _mean(lines: Sequence[Line], field: str) -> tuple[np.ndarray, np.ndarray]:
    """x and mean over the seeds, on the x of the longest line, only where every seed has values."""
    grids = [getattr(line, field) for line in lines]
    grid = max(grids, key=len)
    inside = [
        np.interp(grid, x[good], line.value[good], left=math.nan, right=math.nan)
        for x, line in zip(grids, lines, strict=True)
        for good in [np.isfinite(line.value)]
    ]
    return grid, np.mean(inside, axis=0)


def learning_curve(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    picture: str | os.PathLike[str],
    metrics: Sequence[str],
    axes: Sequence[str] = ("minutes", "env_steps"),
    title: str = "",
) -> None:
    """Draws those of `metrics` that were reported against each of `axes`, from one metrics.jsonl per seed to a PNG.

    Several seeds are thin lines with their mean; evaluations of the same metric are dots.

    Raises:
        ValueError: nothing to draw, or an axis that is none of minutes, env_steps and updates.
        OSError: a file cannot be read or the picture not be written.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    unknown = [name for name in axes if name not in AXES]
    if unknown or not axes:
        raise ValueError(f"axes are {list(axes)}, but must be among {', '.join(AXES)}")
    files = [read_records(path) for path in paths]
    evaluations = [read_records(path, "evaluation") for path in paths]
    drawn = {name: (_lines(files, name), _lines(evaluations, name)) for name in metrics}
    drawn = {name: lines for name, lines in drawn.items() if any(lines)}
    if not drawn:
        raise ValueError(f"no values of {', '.join(metrics) or 'any metric'} in {', '.join(map(str, paths))}")
    curves, dots = ({name: lines[k] for name, lines in drawn.items()} for k in range(2))
    _draw(curves, dots, [AXES[name] for name in axes], title, Path(picture))


def _draw_panel(panel: Any, lines: Sequence[Line], dots: Sequence[Line], axis: Axis, colour: str) -> None:
    width, alpha = (1.8, 1.0) if len(lines) == 1 else (0.9, 0.35)
    for line in lines:
        panel.plot(getattr(line, axis.field) / axis.unit, line.value, color=colour, lw=width, alpha=alpha)
    if len(lines) > 1:
        x, mean = _mean(lines, axis.field)
        panel.plot(x / axis.unit, mean, color=colour, lw=2.2, label=f"mean of {len(lines)} seeds")
    for number, line in enumerate(dots):
        label = "evaluation" if number == 0 else None
        panel.plot(getattr(line, axis.field) / axis.unit, line.value, "o", color="#222222", ms=4, label=label)
    panel.grid(color="#dddddd", lw=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0.01)


def _draw(curves: Mapping[str, list[Line]], dots: Mapping[str, list[Line]], axes: Sequence[Axis], title: str, picture: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(axes), 2.1 * len(curves) + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(curves), len(axes), squeeze=False, sharex="col", sharey="row")
    for row, (name, lines) in enumerate(curves.items()):
        colour = COLOURS[row % len(COLOURS)]
        for column, axis in enumerate(axes):
            panel = grid[row, column]
            _draw_panel(panel, lines, dots[name], axis, colour)
            if column == 0:
                panel.set_ylabel(name.rpartition("/")[2].replace("_", " "))
            if row == len(curves) - 1:
                panel.set_xlabel(axis.label)
    if grid[0, 0].get_legend_handles_labels()[0]:
        grid[0, 0].legend(frameon=False, fontsize="small")
    if title:
        figure.suptitle(title, fontweight="bold")
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, dpi=150)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {picture}: {error.strerror or error}") from error
