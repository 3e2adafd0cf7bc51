"""Where demonstrations do several things at one place, and whether a policy does all of them, one of them or their mean.

A place is a step with its nearest neighbours in what was seen. It has two ways where what followed, projected on its first principal
component, falls into two heaps that are far apart (Ashman et al. 1994, https://doi.org/10.1086/117248, their D), and what was seen does
not tell which.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

NEIGHBOURS = 24
LEAST = 0.15  # share of the neighbours that is a way
APART = 5.0  # D of two ways; halves of a normal distribution have 2.6, of a uniform one 3.5
DIFFERENT = 0.5  # root of the mean square by which two ways differ, in deviations of all actions
TAKEN = 0.05  # share of the samples below which a way is not taken
NEAR = 0.3  # of the distance between two ways: what is farther from both is between them


class Place(NamedTuple):
    """A step at which demonstrations go two ways."""

    row: int
    middle: np.ndarray  # [K] of the first way
    across: np.ndarray  # [K] from there to the other


def places(seen: np.ndarray, chunks: np.ndarray, looked_at: int) -> list[Place]:
    """Those with two ways among `looked_at` rows, evenly from all. `seen` [N, D] and `chunks` [N, K] are in deviations.

    Raises:
        ValueError: there are too few rows to have neighbours.
    """
    from scipy.spatial import KDTree

    if len(seen) < 4 * NEIGHBOURS:
        raise ValueError(f"modes: {len(seen)} transitions, but {4 * NEIGHBOURS} are needed to tell ways from chance; give more data")
    tree = KDTree(seen)
    number = min(looked_at, len(seen))
    found = []
    for row in (i * len(seen) // number for i in range(number)):
        _, near = tree.query(seen[row], NEIGHBOURS)
        if (ways := _two_ways(seen[near], chunks[near])) is not None:
            found.append(Place(row, *ways))
    return found


def _two_ways(seen: np.ndarray, chunks: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The first, and from it to the second, of k neighbours; None where there is one."""
    centred = chunks - chunks.mean(0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    order = np.argsort(along)
    ranked, least = along[order], max(2, int(np.ceil(LEAST * len(along))))
    cuts = range(least, len(along) - least + 1)
    within = [cut * ranked[:cut].var() + (len(along) - cut) * ranked[cut:].var() for cut in cuts]
    cut = cuts[int(np.argmin(within))]
    first, second = ranked[:cut], ranked[cut:]
    spread = np.sqrt((first.var() + second.var()) / 2)
    label = np.zeros(len(along), bool)
    label[order[cut:]] = True
    one, other = chunks[~label].mean(0), chunks[label].mean(0)
    far = second.mean() - first.mean() > APART * max(spread, 1e-9) and np.sqrt(np.mean(np.square(other - one))) > DIFFERENT
    return (one, other - one) if far and not _told(seen, label) else None


def _told(seen: np.ndarray, label: np.ndarray) -> bool:
    """Whether what was seen tells which way is gone: the nearest neighbour of each goes the same one, more often than by chance."""
    apart = np.square(seen[:, None] - seen[None]).sum(-1)
    np.fill_diagonal(apart, np.inf)
    agree = (label[apart.argmin(1)] == label).mean()
    chance = label.mean() ** 2 + (1 - label.mean()) ** 2
    return bool(agree > (1 + chance) / 2)


def taken(place: Place, samples: np.ndarray) -> np.ndarray:
    """[S] where the policy's chunks [S, K] lie between two ways: 0 is the first, 1 the other."""
    along: np.ndarray = (samples - place.middle) @ place.across / np.square(place.across).sum()
    return along


def coverage(
    found: list[Place], sample: Callable[[np.ndarray], np.ndarray], looked_at: int, at_most: int = 16
) -> tuple[dict[str, Any], np.ndarray]:
    """Of up to `at_most` of the places, what the policy does there: plain JSON, and `taken` of each, [places, S].

    `sample` takes rows [n] and gives [n, S, K]. A place is collapsed where hardly a sample goes one of the ways.
    """
    chosen = [found[i * len(found) // min(len(found), at_most)] for i in range(min(len(found), at_most))]
    told: dict[str, Any] = {"looked_at": looked_at, "two_ways": len(found), "sampled": len(chosen), "collapsed": 0, "between": None}
    if not chosen:
        return told, np.zeros((0, 0))
    where = np.stack([taken(*pair) for pair in zip(chosen, sample(np.array([one.row for one in chosen])), strict=True)])
    shares = np.stack([(where < NEAR).mean(1), (where > 1 - NEAR).mean(1)])
    return told | {"collapsed": int((shares.min(0) < TAKEN).sum()), "between": float((1 - shares.sum(0)).mean())}, where
