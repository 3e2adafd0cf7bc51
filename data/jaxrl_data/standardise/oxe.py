"""The data sets of Open X-Embodiment and their kin, and the mixtures of them that others have trained on.

`oxe.json` holds a row for each set. Its facts - which columns, which signs, which cameras - come from the standardisation that Octo
(octo-models/octo) and OpenVLA (moojink/openvla-oft) train with, read as facts, and from the feature descriptions of the TFDS catalog;
control rates are those that RDT uses. Where the two disagree, the row's `note` says which is followed, and where neither settles what
the numbers mean, the row is refused. `mixtures.json` holds names and weights; where a published list names a set twice, as rtx_franka does
four times, its weights are added here: that is what drawing from both entries does.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jaxrl.ops.suggestion import suggestion
from jaxrl_data.standardise.standard import Standard


@cache
def _stored(name: str) -> dict[str, Any]:
    found = json.loads((files("jaxrl_data.standardise") / name).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def names() -> tuple[str, ...]:
    """Of all data sets that have a row, refused ones too."""
    return tuple(_stored("oxe.json"))


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_frozen(one) for one in value)
    if isinstance(value, Mapping):
        return {key: _frozen(one) for key, one in value.items()}
    return value


def standard(name: str) -> Standard:
    """The row of the data set `name`, such as "bridge_dataset". Raises ValueError where there is none."""
    rows = _stored("oxe.json")
    if name not in rows:
        raise ValueError(f"{name}: is no data set of the table; {suggestion(name, tuple(rows))}")
    return Standard(name, **_frozen(rows[name]))


def mixtures() -> tuple[str, ...]:
    """The names of all mixtures, such as "openvla/oxe_magic_soup_plus"."""
    return tuple(_stored("mixtures.json"))


def mixture(name: str, without: tuple[str, ...] = ()) -> dict[str, float]:
    """Data sets and weights. A weight multiplies the number of a set's steps: that is how Octo and OpenVLA draw.

    Raises:
        ValueError: there is no such mixture; a name in `without` is not of it; or it holds sets that are refused and not left out in
            `without`: nothing is dropped in silence.
    """
    known = _stored("mixtures.json")
    if name not in known:
        raise ValueError(f"{name}: is no mixture that is known; {suggestion(name, tuple(known))}")
    for left_out in without:
        if left_out not in known[name]:
            raise ValueError(f"{name}: has no {left_out} to go without; {suggestion(left_out, tuple(known[name]))}")
    kept = {one: float(weight) for one, weight in known[name].items() if one not in without}
    refused = [one for one in kept if standard(one).refused]
    if refused:
        reasons = "; ".join(f"{one}, because {standard(one).refused}" for one in refused)
        raise ValueError(f"{name}: holds {reasons}. Go without: mixture({name!r}, without={tuple(refused)!r})")
    return kept
