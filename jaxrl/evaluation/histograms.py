"""How often a policy would do what, beside how often it was demonstrated: as numbers and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.evaluation.curves import COLOURS
from jaxrl.evaluation.open_loop import Replayed, dimensions
from jaxrl.types import ArraySpec

BINS = 40
_COLUMNS = 4


def histograms(replayed: Sequence[Replayed], action: ArraySpec) -> dict[str, Any]:
    """Of each dimension of the action: counts in bins over the range of both, and how far apart they are, as plain JSON.

    `distance` is the mean way, in the dimension's unit, by which one distribution has to be moved to become the other (Wasserstein's of
    order 1); `relative` that over the range of what was demonstrated, None where it is always the same.
    """
    from scipy import stats

    predicted, demonstrated = (np.concatenate([one[k][one.counts] for one in replayed]) for k in range(2))
    found = {}
    for k, (name, unit) in enumerate(dimensions(action, predicted.shape[1])):
        one, other = predicted[:, k], demonstrated[:, k]
        low, high = min(one.min(), other.min()), max(one.max(), other.max())
        edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
        distance, width = float(stats.wasserstein_distance(one, other)), float(np.ptp(other))
        found[name] = {
            "unit": unit,
            "edges": edges.tolist(),
            "predicted": np.histogram(one, edges)[0].tolist(),
            "demonstrated": np.histogram(other, edges)[0].tolist(),
            "distance": distance,
            "relative": distance / width if width > 0 else None,
        }
    return found


def draw_histograms(found: Mapping[str, Any], picture: Path, title: str = "") -> None:
    """Draws what `histograms` gives, a panel for each dimension, to a PNG. Raises OSError where it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(3.0 * columns, 2.1 * rows + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (name, one) in zip(panels, found.items(), strict=False):
        for colour, kind in zip(COLOURS, ("demonstrated", "predicted"), strict=False):
            panel.stairs(one[kind], one["edges"], color=colour, fill=kind == "demonstrated", alpha=0.5 if kind == "demonstrated" else 1.0)
        panel.set_xlabel(f"{name} [{one['unit']}]" if one["unit"] else name)
        panel.set_yticks([])
        panel.spines[["top", "right", "left"]].set_visible(False)
    for panel in panels[len(found) :]:
        panel.axis("off")
    panels[0].legend(("demonstrated", "predicted"), frameon=False, fontsize="small")
    if title:
        figure.suptitle(title, fontweight="bold")
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, dpi=150)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {picture}: {error.strerror or error}") from error
