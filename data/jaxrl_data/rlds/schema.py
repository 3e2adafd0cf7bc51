"""The features of a TFDS data set of episodes, and an episode as such a data set's example. TensorFlow is imported where it is needed."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrl.types import ArraySpec
from jaxrl_data.episode import Episode, Features, length
from jaxrl_data.writer import plain

FLAGS = ("is_first", "is_last", "is_terminal")  # of every step; those that a data set lacks are added
EXTRA = "jaxrl"  # in episode_metadata: the episode's name, and its metadata as JSON where the others cannot hold them
NATIVE = (
    "float32",
    "int32",
    "int64",
    "uint32",
    "bool",
)  # what a tf.Example holds as it is. The others are kept as bytes: float64 would lose digits
BLANK = {"text": "", "bool": False, "int": 0, "float": 0.0}  # an entry of metadata that an episode lacks
Kinds = Mapping[str, str]  # of metadata: by key, which may have slashes, one of BLANK


def place(column: str) -> tuple[str, ...]:
    """Where a column lies in a step: "observation/state" and "steps/observation/state" are the state of the observation."""
    return tuple(column.removeprefix("steps/").split("/"))


def metadata_kinds(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What kind each entry of an episode's metadata is; entries that TFDS has no feature for (lists, None) are left out."""
    kinds = {key: _kind(value) for key, value in metadata.items() if key != EXTRA}
    inside = {"/".join(key.split("/")[:parts]) for key in kinds for parts in range(1, key.count("/") + 1)}
    return {key: kind for key, kind in kinds.items() if kind and key not in inside and all(key.split("/"))}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else ""
    return "float" if isinstance(value, float) else "text" if isinstance(value, str) else ""


def tfds_features(features: Features, formats: Mapping[str, str], kinds: Kinds) -> Any:
    """tfds.features of a data set of such episodes; `formats` is jpeg or png by image.

    Raises:
        ValueError: two columns cannot both have their place, or a column has a type that TFDS does not know.
    """
    import tensorflow_datasets as tfds

    columns: dict[str, Any] = {name: _tensor(name, spec) for name, spec in features.arrays.items()}
    for name, spec in features.images.items():
        shape = tuple(size if isinstance(size, int) else None for size in spec.shape)
        columns[name] = tfds.features.Image(shape=shape, dtype=np.dtype(spec.dtype), encoding_format=formats[name])
    columns |= {name: tfds.features.Text() for name in features.texts}
    columns |= {name: tfds.features.Scalar(np.bool_) for name in added(features)}
    steps: dict[str, Any] = {}
    for name, feature in columns.items():
        _set(steps, place(name), feature, name)
    metadata = _metadata_features(kinds) | {EXTRA: tfds.features.Text(doc="JSON: the episode's name, and metadata that have no feature")}
    return tfds.features.FeaturesDict({"steps": tfds.features.Dataset(steps), "episode_metadata": metadata})


def added(features: Features) -> tuple[str, ...]:
    """The flags that RLDS needs and these features lack."""
    return tuple(flag for flag in FLAGS if (flag,) not in {place(name) for name in features.names})


def example(episode: Episode, features: Features, kinds: Kinds) -> dict[str, Any]:
    """The episode as `tfds_features` take it. Without flags of its own, its last step is terminal if metadata["terminated"] says so."""
    steps = length(episode)
    metadata = dict(plain(episode.metadata))
    last = np.arange(steps) == steps - 1
    flags = {"is_first": np.arange(steps) == 0, "is_last": last, "is_terminal": last & bool(metadata.get("terminated", False))}
    columns: dict[str, Any] = {name: _stored(column, features.arrays[name]) for name, column in episode.arrays.items()}
    columns |= {**episode.images, **episode.texts} | {name: flags[name] for name in added(features)}
    rows: list[dict[str, Any]] = [{} for _ in range(steps)]
    for name, column in columns.items():
        for row, value in zip(rows, column, strict=True):
            _set(row, place(name), value, name)
    fitting = {key: metadata[key] if _kind(metadata.get(key)) == kind else BLANK[kind] for key, kind in kinds.items()}
    extra = {"name": episode.name} | ({} if fitting == metadata else {"metadata": metadata})
    stored: dict[str, Any] = {EXTRA: json.dumps(extra, ensure_ascii=False)}
    for key, value in fitting.items():
        _set(stored, tuple(key.split("/")), value, key)
    return {"steps": rows, "episode_metadata": stored}


def metadata_of(stored: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and metadata of an episode, from episode_metadata as it is stored. Without EXTRA the name is empty."""
    given = dict(plain(stored))
    extra = json.loads(given.pop(EXTRA, "{}"))
    return extra.get("name", ""), extra.get("metadata", given)


def kinds_of(feature: Any, prefix: str = "") -> dict[str, str]:
    """The kinds of metadata that the features of a data set on disk were made for."""
    import tensorflow_datasets as tfds

    kinds: dict[str, str] = {}
    for key, one in feature.items():
        if isinstance(one, tfds.features.FeaturesDict):
            kinds |= kinds_of(one, f"{prefix}{key}/")
        elif prefix + key != EXTRA:
            letter = np.dtype(one.np_dtype).kind
            kinds[prefix + key] = "text" if isinstance(one, tfds.features.Text) else {"b": "bool", "f": "float"}.get(letter, "int")
    return kinds


def image_format(image: bytes, where: str) -> str:
    """jpeg or png, by the first bytes. Raises ValueError for anything else, which TFDS cannot decode."""
    if image[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if image[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    raise ValueError(f"{where}: is neither JPEG nor PNG, which are what a TFDS image may be; it begins with {image[:8]!r}; encode it again")


def _tensor(name: str, spec: ArraySpec) -> Any:
    import tensorflow_datasets as tfds

    shape = tuple(size if isinstance(size, int) else None for size in spec.shape)
    if np.dtype(spec.dtype).kind not in "fiub" or np.dtype(spec.dtype).itemsize > 8:
        raise ValueError(f"{name}: is {spec.dtype}, which TFDS does not store; make it a float, an integer or bool")
    if 0 in shape:
        raise ValueError(f"{name}: has the shape {spec.shape}, and TFDS cannot store what is empty; leave it out")
    raw = spec.dtype not in NATIVE or None in shape
    if raw and spec.dtype == "uint32":
        raise ValueError(f"{name}: is uint32 with a size that is not fixed, which TFDS cannot read; make it int64")
    return tfds.features.Tensor(shape=shape, dtype=np.dtype(spec.dtype), encoding="bytes" if raw else "none")


def _stored(column: np.ndarray, spec: ArraySpec) -> np.ndarray:
    return np.ascontiguousarray(column, dtype=np.dtype(spec.dtype).newbyteorder("<"))


def _set(tree: dict[str, Any], path: tuple[str, ...], value: Any, name: str) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ValueError(f"{name}: lies inside {part}, which is a column too; rename one of them")
    if path[-1] in tree or not all(path):
        raise ValueError(f"{name}: has no place of its own among the steps; rename it")
    tree[path[-1]] = value


def _metadata_features(kinds: Kinds) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    made = {
        "text": tfds.features.Text,
        "bool": lambda: tfds.features.Scalar(np.bool_),
        "int": lambda: tfds.features.Scalar(np.int64),
        "float": lambda: tfds.features.Tensor(shape=(), dtype=np.float64, encoding="bytes"),
    }
    features: dict[str, Any] = {}
    for key, kind in kinds.items():
        _set(features, tuple(key.split("/")), made[kind](), key)
    return features
