"""What a data set was before it was converted: `jaxrl.json` in its folder, from which the way back finds every name and shape."""

import json
from dataclasses import asdict, dataclass, replace

from etils import epath

from jaxrl.types import ArraySpec
from jaxrl_data.episode import Features

FILE = "jaxrl.json"
KINDS = ("arrays", "images", "texts")


@dataclass(frozen=True)
class Column:
    """One column, by both its names."""

    name: str  # here
    source: str  # in what it was converted from
    kind: str  # arrays, images or texts
    spec: ArraySpec | None = None  # in what it was converted from, because another format may change the shape; None for texts


@dataclass(frozen=True)
class Origin:
    """Of a converted data set. Columns that it has beside these were added in the conversion."""

    columns: tuple[Column, ...]
    rate: float = 0.0  # steps per second, as the source told it
    dataset: str = ""  # the source's name
    fingerprint: str = ""  # and that of its content

    def names(self, kind: str) -> dict[str, str]:
        """Name in the source -> name here."""
        return {one.source: one.name for one in self.columns if one.kind == kind}


def unchanged(features: Features) -> Origin:
    """Of a data set that was not converted: it tells the units and names of dimensions, and the rate, for which RLDS has no place."""
    tables = (("arrays", features.arrays), ("images", features.images))
    columns = [Column(name, name, kind, spec) for kind, table in tables for name, spec in table.items()]
    return Origin((*columns, *(Column(name, name, "texts") for name in features.texts)), features.rate)


def completed(features: Features, origin: Origin | None) -> Features:
    """With the names of dimensions, units, limits and the rate that `origin` tells, where the data set has no place for them."""
    if origin is None:
        return features
    told = {(one.kind, one.name): one.spec for one in origin.columns}

    def spec(kind: str, name: str, found: ArraySpec) -> ArraySpec:
        first = told.get((kind, name))
        if first is None:
            return found
        limits = {end: getattr(found, end) if getattr(found, end) is not None else getattr(first, end) for end in ("low", "high")}
        width = found.shape[-1] if found.shape else 1
        names = found.names or (first.names if len(first.names) == width else ())
        dtype = first.dtype if kind == "images" else found.dtype
        return replace(found, names=names, unit=found.unit or first.unit, dtype=dtype, **limits)

    arrays = {name: spec("arrays", name, one) for name, one in features.arrays.items()}
    images = {name: spec("images", name, one) for name, one in features.images.items()}
    return Features(arrays, images, features.texts, features.rate or origin.rate)


def to_json(origin: Origin) -> dict[str, object]:
    """As `jaxrl.json` holds it."""
    return asdict(origin)


def read_origin(path: str) -> Origin | None:
    """Of the data set in this folder; None where it was not converted.

    Raises:
        ValueError: the file is damaged.
    """
    files = [file for file in (epath.Path(path) / FILE, epath.Path(path) / "meta" / FILE) if file.exists()]  # LeRobot's is in meta
    if not files:
        return None
    file = files[0]
    try:
        told = json.loads(file.read_text())
        columns = tuple(Column(**one | {"spec": one["spec"] and _spec(one["spec"])}) for one in told.pop("columns"))
        return Origin(columns, **told)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: does not tell what the data set was converted from ({error}); write the folder again") from error


def _spec(fields: dict[str, object]) -> ArraySpec:
    return ArraySpec(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})  # type: ignore[arg-type]
