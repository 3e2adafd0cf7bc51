"""How a policy moves: how long it takes, how smoothly, and how far from where demonstrations were."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl.evaluation.open_loop import Episode, dimensions
from jaxrl.evaluation.play import Played, Step, returns
from jaxrl.evaluation.statistics import interval
from jaxrl.types import SUCCESS, ArraySpec

PREFIX = "motion/"  # of what `moving` keeps, which is no metric
_ACTION = f"{PREFIX}action"
_STATE = "state/"
_MOST = 30  # demonstrations that tell how far these are from each other


def moving(step: Step) -> dict[str, Any]:
    """What `returns` keeps, with the actions and states of each step."""
    seen = {f"{PREFIX}{name}": x for name, x in step.observation.items() if name.startswith(_STATE)}
    return returns(step) | {_ACTION: step.action} | seen


def jerk(path: np.ndarray, dt: float) -> np.ndarray:
    """[D] of a path [T, D], the root of the mean square of its third differences over `dt`^3: in its units per s^3 where `dt` is in s.

    NaN where the path has less than four points. Flash and Hogan 1985, https://doi.org/10.1523/JNEUROSCI.05-07-01688.1985, take its
    square over a movement as a measure of smoothness.
    """
    if len(path) < 4:
        return np.full(path.shape[1], np.nan)
    third = np.diff(np.asarray(path, np.float64), 3, axis=0) / dt**3
    return np.sqrt(np.square(third).mean(0))


def distance(states: np.ndarray, demonstrated: np.ndarray, scale: np.ndarray) -> float:
    """Mean over the states [N, D] of how far the nearest demonstrated one [M, D] is, in `scale`s [D] of each dimension.

    It is the root of the mean square over dimensions: 1 is one scale in each. This is the chamfer distance of Barrow et al. 1977 in one
    direction: it does not tell of demonstrated states that are missed.
    """
    from scipy.spatial import KDTree

    away, _ = KDTree(demonstrated / scale).query(states / scale)
    return float(np.mean(away) / np.sqrt(states.shape[1]))


def _states(table: Mapping[str, np.ndarray], prefix: str = "") -> np.ndarray:
    """[T, D]: all that tells of the robot and its world in numbers, side by side."""
    arrays = [x for name, x in sorted(table.items()) if name.startswith(f"{prefix}{_STATE}") and np.issubdtype(x.dtype, np.floating)]
    return np.concatenate([x.reshape(len(x), -1) for x in arrays], 1) if arrays else np.zeros((len(next(iter(table.values()))), 0))


def motions(played: Mapping[str, Played], episodes: Sequence[Episode], action: ArraySpec, dt: float) -> dict[str, Any]:
    """Of episodes by condition, kept by `moving`, and of demonstrations: plain JSON, means with 95 % intervals over episodes.

    `time_to_success` is of episodes that succeeded, `duration` of all, both in s, or steps where `dt` is 0. `jerk` is that of the actions,
    of each dimension in its unit per s^3 (or step^3). `distance` is that of the states to those of `episodes`, in deviations of these; of
    demonstrations themselves, to all the others.
    """
    tick = dt or 1.0
    shown = [_states(one.observation) for one in episodes]
    every = np.concatenate(shown)
    scale = np.maximum(every.std(0), 1e-6)
    few = [i * len(shown) // min(len(shown), _MOST) for i in range(min(len(shown), _MOST))]
    told: dict[str, Any] = {"unit": {"time": "s" if dt else "steps", "jerk": _per(action, "s^3" if dt else "step^3")}}
    apart = [distance(shown[i], np.concatenate(shown[:i] + shown[i + 1 :]), scale) for i in few] if len(shown) > 1 and scale.size else []
    told["demonstrations"] = {
        "duration": _mean([len(one.counts) * tick for one in episodes]),
        "jerk": _jerks([jerk(one.action[:, 0], tick) for one in episodes], action),
        "distance": _mean(apart),
    }
    for condition, one in played.items():
        kept, alive = one.kept, np.asarray(one.alive)
        lengths = alive.sum(0)
        rows = [{name: np.asarray(x)[alive[:, i], i] for name, x in kept.items() if name.startswith(PREFIX)} for i in range(len(lengths))]
        rows = [row for row in rows if len(row[_ACTION])]
        told[condition] = {
            "duration": _mean(lengths[lengths > 0] * tick),
            "jerk": _jerks([jerk(row[_ACTION], tick) for row in rows], action),
            "distance": _mean([distance(_states(row, PREFIX), every, scale) for row in rows] if scale.size else []),
        }
        if SUCCESS in kept:
            last = np.asarray(kept[SUCCESS])[np.maximum(lengths - 1, 0), np.arange(len(lengths))]
            told[condition]["time_to_success"] = _mean(lengths[(last > 0) & (lengths > 0)] * tick)
    return told


def _per(action: ArraySpec, time: str) -> dict[str, str]:
    return {name: f"{unit or '1'}/{time}" for name, unit in dimensions(action, int(action.shape[0]))}


def _mean(values: Any) -> dict[str, Any]:
    array = np.asarray(values, np.float64)
    return interval(array[np.isfinite(array)]).to_json()


def _jerks(each: Sequence[np.ndarray], action: ArraySpec) -> dict[str, Any]:
    return {name: _mean([one[k] for one in each]) for k, (name, _) in enumerate(dimensions(action, int(action.shape[0])))}


def table(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows of text for a terminal, of what `motions` gives: a header, then demonstrations and each condition."""
    conditions = [name for name in results if name != "unit"]
    units = results["unit"]
    columns = [("time_to_success", None), ("duration", None), ("distance", None), *(("jerk", name) for name in units["jerk"])]
    heads = [f"jerk {name} [{units['jerk'][name]}]" if name else f"{kind.replace('_', ' ')}{_unit(kind, units)}" for kind, name in columns]

    def cell(condition: str, kind: str, name: str | None) -> str:
        found = results[condition].get(kind, {})
        found = found[name] if name else found
        return "-" if found.get("value") is None else f"{found['value']:.3g}"

    return [("", *heads), *((condition, *(cell(condition, *column) for column in columns)) for condition in conditions)]


def _unit(kind: str, units: Mapping[str, Any]) -> str:
    return " to demonstrations" if kind == "distance" else f" [{units['time']}]"
