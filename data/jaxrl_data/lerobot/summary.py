"""Statistics that a LeRobot data set carries: of each episode and, merged, of all."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl_data.lerobot.encode import picture

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
KNOTS = {"min": 0.0, **QUANTILES, "max": 1.0}
NARROW = 1e-7  # of the range: knots that are nearer than this count as one value
Summary = dict[str, np.ndarray]  # min, max, mean, std, count and the quantiles


def summary(array: np.ndarray) -> Summary:
    """Of T rows [T, ...], by entry, in float64; quantiles are exact, with values in between where rows are even in number."""
    rows = array.astype(np.float64).reshape(len(array), -1)
    shape = array.shape[1:] or (1,)
    with np.errstate(invalid="ignore"):  # what is not finite makes statistics that are not
        found = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
        found |= dict(zip(QUANTILES, np.quantile(rows, list(QUANTILES.values()), axis=0), strict=True))
    return {name: value.reshape(shape) for name, value in found.items()} | {"count": np.array([len(array)])}


def image_summary(images: Sequence[bytes]) -> Summary:
    """By colour, [3, 1, 1], from 0 to 1: of T ** 0.75 images, at least 100 where there are as many, and every n-th pixel of large ones."""
    count = max(min(100, len(images)), min(int(len(images) ** 0.75), 10_000))
    chosen = np.linspace(0, len(images) - 1, count).round().astype(int)
    pixels = [_smaller(picture(images[step])).reshape(-1, 3) for step in chosen]
    histogram = sum(np.stack([np.bincount(one[:, colour], minlength=256) for colour in range(3)]) for one in pixels)
    levels, total = np.arange(256) / 255, histogram.sum(1)  # type: ignore[union-attr]
    mean = histogram @ levels / total
    found = {"mean": mean, "std": np.sqrt(np.maximum(histogram @ levels**2 / total - mean**2, 0))}
    share = np.cumsum(histogram, 1) / total[:, None]
    for name, level in KNOTS.items():  # the first level up to which there are that many pixels; all 256 are told apart
        found[name] = np.array([levels[np.searchsorted(one, max(level, 1e-12) - 1e-12)] for one in share])
    return {name: value.reshape(3, 1, 1) for name, value in found.items()} | {"count": np.array([count])}


def _smaller(image: np.ndarray) -> np.ndarray:
    side = max(image.shape[:2])
    every = side // 150 if side > 300 else 1
    return image[::every, ::every]


def merged(parts: Sequence[Mapping[str, Any]]) -> Summary:
    """Of all rows of the parts: minimum, maximum, mean, standard deviation and count are exact.

    A quantile is that of the mixture of the parts, each taken as evenly spread between the quantiles which it tells of.
    """
    with np.errstate(invalid="ignore"):
        return _merged(parts)


def _merged(parts: Sequence[Mapping[str, Any]]) -> Summary:
    stacked = {name: np.stack([np.asarray(part[name], np.float64) for part in parts]) for name in ("mean", "std", *KNOTS)}
    counts = np.array([int(np.asarray(part["count"]).reshape(-1)[0]) for part in parts])
    weights = (counts / counts.sum()).reshape(-1, *[1] * (stacked["mean"].ndim - 1))
    mean = (weights * stacked["mean"]).sum(0)
    variance = (weights * (stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2)).sum(0)
    found = {"min": stacked["min"].min(0), "max": stacked["max"].max(0), "mean": mean, "std": np.sqrt(variance)}
    knots = np.stack([stacked[name] for name in KNOTS]).reshape(len(KNOTS), len(parts), -1)  # [knot, part, entry]
    quantiles = np.stack([_mixture(knots[:, :, entry], counts / counts.sum()) for entry in range(knots.shape[2])], axis=1)
    found |= {name: row.reshape(mean.shape) for name, row in zip(QUANTILES, quantiles, strict=True)}
    return found | {"count": np.array([counts.sum()])}


def _mixture(knots: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Quantiles of one entry, from the knots [knot, part] of its parts: where the weighted shares up to a value reach the level.

    Between two knots a part's share rises evenly; where they are the same value, such as an open gripper's, it jumps there.
    """
    span = np.ptp(knots)
    if not np.isfinite(span):
        return np.full(len(QUANTILES), np.nan)
    share = np.diff(list(KNOTS.values()))[:, None] * weights
    width = np.diff(knots, axis=0)
    same = width <= NARROW * span
    slope = np.where(same, 0.0, share / np.where(same, 1.0, width))
    values = np.concatenate([knots[:-1], knots[1:]]).reshape(-1)
    order = np.argsort(values, kind="stable")
    values = values[order]
    slopes = np.cumsum(np.concatenate([slope, -slope]).reshape(-1)[order])
    jumps = np.concatenate([np.where(same, share, 0.0), np.zeros_like(share)]).reshape(-1)[order]
    up_to = np.cumsum(jumps) + np.concatenate([[0.0], np.cumsum(slopes[:-1] * np.diff(values))])
    shares = np.stack([up_to - jumps, up_to], axis=1).reshape(-1)
    return np.interp(list(QUANTILES.values()), np.maximum.accumulate(shares), np.repeat(values, 2))
