"""What a policy achieves, with intervals, as plain JSON: means over episodes, and where in the task it does well or badly."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrl.evaluation.play import Played
from jaxrl.evaluation.statistics import breakdown, interval
from jaxrl.types import Params, flatten_names

BINS = 5
HIDDEN = ("reward/", "command/")  # metrics that are parts of others, or conditions


def _per_episode(values: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means [n] over the seen steps of [T, N], and which of the N episodes have any, [N] bool."""
    count = seen.sum(0)
    some = count > 0
    return (np.where(seen, values, 0.0).sum(0)[some] / count[some]).astype(np.float64), some


def metrics_of(played: Played) -> dict[str, np.ndarray]:
    """One value per episode, [N]: return, length, fall (bool) and the mean over its steps of each metric that is a result."""
    alive = np.asarray(played.alive)
    kept = {name: np.asarray(value) for name, value in played.kept.items()}
    reward = np.where(alive, kept["reward"], 0.0).sum(0, dtype=np.float64)
    per_episode = {"return": reward, "length": alive.sum(0), "fall_rate": np.asarray(played.terminated)}
    results = [name for name in kept if name != "reward" and not name.startswith(HIDDEN)]
    means = {name: _per_episode(kept[name], alive)[0] for name in results}
    return per_episode | means | {"diverged": np.asarray(played.diverged)}


def intervals(played: Played) -> dict[str, Any]:
    """Each value of `metrics_of` as its mean, or rate, with a 95 % interval over episodes."""
    return {name: interval(values).to_json() for name, values in metrics_of(played).items()}


def _edges(values: np.ndarray) -> np.ndarray | None:
    """Of bins that divide the range evenly; None where there is no range."""
    low, high = float(values.min()), float(values.max())
    return None if high - low < 1e-6 else np.linspace(low, high, BINS + 1)


def by_condition(played: Played) -> dict[str, Any]:
    """Each result within bins of each `command/<name>`: means per episode over the steps in the bin, then over episodes."""
    alive = np.asarray(played.alive)
    kept = {name: np.asarray(value) for name, value in played.kept.items()}
    results = [name for name in kept if name != "reward" and not name.startswith(HIDDEN)]
    table: dict[str, Any] = {}
    for condition in (name for name in kept if name.startswith("command/")):
        edges = _edges(kept[condition][alive]) if alive.any() else None
        if edges is None:
            continue
        rows = []
        for k in range(BINS):
            inside = alive & (kept[condition] >= edges[k]) & ((kept[condition] < edges[k + 1]) | (k == BINS - 1))
            row = {name: interval(_per_episode(kept[name], inside)[0]).to_json() for name in results}
            rows.append({"low": float(edges[k]), "high": float(edges[k + 1])} | row)
        table[condition] = rows
    return table


def by_parameter(played: Played, parameters: Params) -> dict[str, Any]:
    """Each value of `metrics_of` within bins of each physics parameter that is one number per episode, [N]."""
    values = metrics_of(played)
    table: dict[str, Any] = {}
    for name, parameter in flatten_names(parameters).items():
        if np.ndim(parameter) != 1:
            continue
        edges = _edges(np.asarray(parameter, np.float64))
        if edges is None:
            continue
        bins = {
            result: breakdown(per, np.asarray(parameter, np.float64), edges.tolist())
            for result, per in values.items()
            if len(per) == len(parameter)
        }
        table[name] = [
            {"low": float(edges[k]), "high": float(edges[k + 1])} | {result: rows[k].interval.to_json() for result, rows in bins.items()}
            for k in range(BINS)
        ]
    return table


CONDITIONS = ("nominal", "randomised", "standing_baseline")


def names(results: Mapping[str, Any]) -> tuple[str, ...]:
    """The results worth a column."""
    return tuple(name for name in results[CONDITIONS[0]] if name not in ("length", "diverged"))


def table(results: Mapping[str, Any], columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Rows of text for a terminal: a header, then one row per condition."""
    show = lambda x: "-" if x["value"] is None else f"{x['value']:.3f} [{_number(x['low'])}, {_number(x['high'])}]"  # noqa: E731
    rows = [(condition, *(show(results[condition][name]) for name in columns)) for condition in CONDITIONS]
    return [("", *columns), *rows]


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"
