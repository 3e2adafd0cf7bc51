"""What a policy achieves, with intervals, as plain JSON: means over episodes, and where in the task it does well or badly."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl.evaluation.motion import PREFIX
from jaxrl.evaluation.play import Played
from jaxrl.evaluation.statistics import breakdown, difference_interval, interquartile_interval, interval
from jaxrl.types import SUCCESS

BINS = 5
HIDDEN = ("reward/", "command/", PREFIX)  # metrics that are parts of others, or conditions; and what is no metric


def _per_episode(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Means [N] over the seen steps of [T, N]; NaN where an episode has none."""
    count = seen.sum(0)
    return np.where(count > 0, np.where(seen, values, 0.0).sum(0, dtype=np.float64) / np.maximum(count, 1), np.nan)


def _interval(values: np.ndarray) -> dict[str, Any]:
    """The mean, or rate, of the episodes that have a value."""
    return interval(values[np.isfinite(values)]).to_json()


def _results(played: Played) -> tuple[np.ndarray, dict[str, np.ndarray], list[str]]:
    """Which steps count, [T, N]; everything kept; the names of the metrics among it that are results."""
    kept = {name: np.asarray(value) for name, value in played.kept.items()}
    return np.asarray(played.alive), kept, [name for name in kept if name != "reward" and not name.startswith(HIDDEN)]


def metrics_of(played: Played) -> dict[str, np.ndarray]:
    """One value per episode, [N]: return, length, fall (bool) and the mean over its steps of each metric that is a result.

    The mean is NaN where an episode diverged in its first step. A metric `success` counts as it is at the last step (bool); an episode that
    diverged is no success.
    """
    alive, kept, results = _results(played)
    reward = np.where(alive, kept["reward"], 0.0).sum(0, dtype=np.float64)
    per_episode = {"return": reward, "length": alive.sum(0), "fall_rate": np.asarray(played.terminated)}
    means = {name: _per_episode(kept[name], alive) for name in results if name != SUCCESS}
    diverged = np.asarray(played.diverged)
    if SUCCESS in results:
        last = np.maximum(alive.sum(0) - 1, 0)
        per_episode[SUCCESS] = (kept[SUCCESS][last, np.arange(alive.shape[1])] > 0) & ~diverged
    return per_episode | means | {"diverged": diverged}


def intervals(played: Played) -> dict[str, Any]:
    """Each value of `metrics_of` as its mean, or rate, with a 95 % interval over episodes."""
    return {name: _interval(values) for name, values in metrics_of(played).items()}


def differences(first: Played, second: Played) -> dict[str, Any]:
    """Each value of `metrics_of` of two policies in the same episodes: of both, and of the first minus the second, with 95 % intervals.

    Only episodes count in which both have a value.
    """
    found = {}
    one, other = metrics_of(first), metrics_of(second)
    for name in (name for name in one if name in other):
        both = np.isfinite(one[name]) & np.isfinite(other[name])
        pair = one[name][both], other[name][both]
        told = {"first": interval(pair[0]), "second": interval(pair[1]), "difference": difference_interval(*pair)}
        found[name] = {key: value.to_json() for key, value in told.items()}
    return found


def by_seed(seeds: Sequence[Mapping[str, Played]]) -> dict[str, Any]:
    """Of the seeds of a run, each with its episodes by condition: the mean, or rate, of each, None where it has none, and what they
    come to together: the interquartile mean with its 95 % interval over seeds."""

    def together(each: list[float | None]) -> dict[str, Any]:
        known = [value for value in each if value is not None]
        return {"each": each, "interquartile_mean": interquartile_interval([known]).to_json() if known else None}

    means = [{name: {key: one["value"] for key, one in intervals(played).items()} for name, played in seed.items()} for seed in seeds]
    return {name: {key: together([one[name][key] for one in means]) for key in found} for name, found in means[0].items()}


def _edges(values: np.ndarray) -> np.ndarray | None:
    """Of bins that divide the range evenly; None where there is no range."""
    low, high = float(values.min()), float(values.max())
    return None if high - low < 1e-6 else np.linspace(low, high, BINS + 1)


def by_condition(played: Played) -> dict[str, Any]:
    """Each result within bins of each `command/<name>`: means per episode over the steps in the bin, then over episodes.

    `reward` is per step; `fall_rate` is the share of the episodes with steps in the bin that ended there by a fall.
    """
    alive, kept, results = _results(played)
    last, episodes, fell = np.maximum(alive.sum(0) - 1, 0), np.arange(alive.shape[1]), np.asarray(played.terminated)
    table: dict[str, Any] = {}
    for condition in (name for name in kept if name.startswith("command/")):
        edges = _edges(kept[condition][alive]) if alive.any() else None
        if edges is None:
            continue
        rows = []
        for k in range(BINS):
            inside = alive & (kept[condition] >= edges[k]) & ((kept[condition] < edges[k + 1]) | (k == BINS - 1))
            row = {name: _interval(_per_episode(kept[name], inside)) for name in ("reward", *results) if name != SUCCESS}
            row["fall_rate"] = _interval((inside[last, episodes] & fell)[inside.any(0)])
            rows.append({"low": float(edges[k]), "high": float(edges[k + 1])} | row)
        table[condition] = rows
    return table


def by_parameter(played: Played, parameters: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Each value of `metrics_of` within bins of each physics parameter, [N]: that of each episode, by a name such as "link_mass/base"."""
    values = metrics_of(played)
    table: dict[str, Any] = {}
    for name, parameter in parameters.items():
        edges = _edges(parameter)
        if edges is None:
            continue
        known = {result: np.isfinite(per) for result, per in values.items()}
        bins = {result: breakdown(per[known[result]], parameter[known[result]], edges.tolist()) for result, per in values.items()}
        rows: list[dict[str, Any]] = [{"low": float(edges[k]), "high": float(edges[k + 1])} for k in range(BINS)]
        table[name] = [row | {result: found[k].interval.to_json() for result, found in bins.items()} for k, row in enumerate(rows)]
    return table


CONDITIONS = ("nominal", "randomised", "standing_baseline")


def _conditions(results: Mapping[str, Any]) -> tuple[str, ...]:
    """Those that were evaluated: not every environment can be randomised."""
    return tuple(condition for condition in CONDITIONS if condition in results)


def names(results: Mapping[str, Any]) -> tuple[str, ...]:
    """The results worth a column; that of diverged worlds is, once there is one."""
    diverged = any(results[condition]["diverged"]["value"] for condition in _conditions(results))
    return tuple(name for name in results.get(CONDITIONS[0], ()) if name != "length" and (name != "diverged" or diverged))


def table(results: Mapping[str, Any], columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Rows of text for a terminal: a header, then one row per condition; none where nothing has acted."""
    if not _conditions(results):
        return []
    nothing = {"value": None}  # of what a policy tells of itself, doing nothing has none
    rows = [(condition, *(_cell(results[condition].get(name, nothing)) for name in columns)) for condition in _conditions(results)]
    return [(f"N = {results['num_episodes']}", *columns), *rows]


def difference_table(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows of text for a terminal, of what `compare` gives: for each condition both policies and how far they are apart."""
    conditions = _conditions(results)
    columns = [name for name in results[conditions[0]] if name != "length"]
    rows = [(f"N = {results['num_episodes']}", *columns)]
    for condition in conditions:
        for kind in ("first", "second", "difference"):
            cells = (results[condition].get(name, {}).get(kind, {"value": None}) for name in columns)
            rows.append((f"{condition}, {kind}", *map(_cell, cells)))
    return rows


def _cell(x: Mapping[str, Any]) -> str:
    return "-" if x["value"] is None else f"{x['value']:.3f} [{_number(x['low'])}, {_number(x['high'])}]"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def seed_lines(results: Mapping[str, Any]) -> list[str]:
    """Text for a terminal: the returns of all seeds, where there are several; the table is that of the first."""
    lines = []
    for condition, found in results.get("seeds", {}).items():
        middle = found["return"]["interquartile_mean"]
        each = ", ".join("-" if value is None else f"{value:.3f}" for value in found["return"]["each"])
        if middle is not None:
            bounds = f"[{_number(middle['low'])}, {_number(middle['high'])}]"
            lines.append(f"{condition}: interquartile mean of the return over seeds {middle['value']:.3f} {bounds}, each {each}")
    return lines
