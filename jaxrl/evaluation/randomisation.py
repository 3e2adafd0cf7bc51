"""Where in its randomised physics a policy succeeds, and how a curriculum has moved the ranges: as pictures."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.evaluation.curves import AXES, COLOURS, read_records
from jaxrl.evaluation.play import draw, play
from jaxrl.evaluation.report import by_parameter, intervals
from jaxrl.types import SUCCESS, Env, HostEnv, Params, Policy

_COLUMNS = 4
_PREFIX = "curriculum/"


def randomisation_report(env: Env | HostEnv, policy: Policy, params: Params, num_episodes: int, seed: int) -> dict[str, Any]:
    """Results of a policy in the randomised world, as a whole and within bins of each physics parameter, as plain JSON.

    `units` has the unit of each parameter by the first word of its name.

    Raises:
        ValueError: nothing is randomised.
    """
    if isinstance(env, HostEnv):
        raise ValueError(f"{env.spec.name} is stepped on the host, where nothing is randomised")
    if env.space is None:
        raise ValueError(
            f"{env.spec.name} varies nothing here; give its config ranges, such as --config.env.randomization.friction=(0.4,1.2)"
        )
    draws, episodes = jax.random.split(jax.random.key(seed))
    physics = draw(env.sample, draws, num_episodes)
    played = jax.device_get(play(env, policy, num_episodes=num_episodes)(params, physics, episodes))
    return {
        "num_episodes": num_episodes,
        "units": dict(zip(env.space.names, env.space.units, strict=True)),
        "randomised": intervals(played),
        "by_parameter": by_parameter(played, env.space.summary(jax.device_get(physics))),
    }


def _rate(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Share of successes and its interval: by the task's own measure, else by not falling."""
    own = SUCCESS in row
    found = {key: math.nan if value is None else value for key, value in row[SUCCESS if own else "fall_rate"].items()}
    if own:
        return found["value"], found["low"], found["high"]
    return 1.0 - found["value"], 1.0 - found["high"], 1.0 - found["low"]


def draw_report(results: Mapping[str, Any], picture: Path, title: str = "") -> None:
    """Draws the share of successes against each physics parameter, with 95 % intervals, to a PNG.

    `results` is what `randomisation_report` gives, or an evaluation.json.

    Raises:
        ValueError: there is no parameter to draw.
        OSError: the picture cannot be written.
    """
    table = results["by_parameter"]
    if not table:
        raise ValueError("no physics parameter varied")
    units = results.get("units", {})
    overall = _rate(results["randomised"])[0]

    def panel(axes: Any, name: str) -> None:
        rows = table[name]
        middle = [(row["low"] + row["high"]) / 2 for row in rows]
        rates = np.array([_rate(row) for row in rows])
        errors = np.maximum(np.stack([rates[:, 0] - rates[:, 1], rates[:, 2] - rates[:, 0]]), 0.0)
        axes.axhline(overall, color="#bbbbbb", lw=1.0)
        axes.bar(middle, rates[:, 0], 0.9 * (rows[0]["high"] - rows[0]["low"]), yerr=errors, color=COLOURS[0], ecolor="#444444", capsize=2)
        axes.set_ylim(0, 1.02)
        unit = units.get(name.partition("/")[0], "1")
        axes.set_xlabel(name.replace("_", " ") + ("" if unit == "1" else f" [{unit}]"))

    what = "success" if SUCCESS in results["randomised"] else "episodes without a fall"
    _panels(sorted(table), panel, picture, f"{title}: {what} against physics".lstrip(": "))


def draw_curriculum(metrics: Path, picture: Path, title: str = "", axis: str = "env_steps") -> None:
    """Draws the range of each physics parameter over a training run with a curriculum, from its metrics.jsonl to a PNG.

    Raises:
        ValueError: the run had no curriculum that moves ranges.
        OSError: a file cannot be read or the picture not be written.
    """
    records = read_records(metrics)
    names = sorted(
        {key.removeprefix(_PREFIX).removesuffix("/low") for r in records for key in r if key.startswith(_PREFIX) and key.endswith("/low")}
    )
    if not names:
        raise ValueError(f"{metrics}: holds no ranges; the run had no curriculum that moves them")
    along = AXES[axis]
    x = np.array([record[along.field] for record in records]) / along.unit

    def panel(axes: Any, name: str) -> None:
        low, high = ([record.get(f"{_PREFIX}{name}/{side}", math.nan) for record in records] for side in ("low", "high"))
        axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.35, lw=0)
        axes.plot(x, low, color=COLOURS[0], lw=1.2)
        axes.plot(x, high, color=COLOURS[0], lw=1.2)
        axes.set_ylabel(name.replace("_", " "))
        axes.set_xlabel(along.label)

    _panels(names, panel, picture, title)


def _panels(names: Sequence[str], draw_one: Any, picture: Path, title: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(2.7 * columns, 2.1 * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for name, axes in zip(names, grid, strict=False):
        draw_one(axes, name)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title, fontweight="bold")
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, dpi=130)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {picture}: {error.strerror or error}") from error
