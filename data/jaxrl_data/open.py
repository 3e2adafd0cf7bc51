"""Any data set by its path: which reader it needs is told by the files that lie there."""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from etils import epath

from jaxrl.ops.suggestion import suggestion
from jaxrl_data.dataset import Dataset


class Format(NamedTuple):
    """How a format is known, and the module that reads it: with `splits(path) -> tuple[str, ...]` and `read(path, split) -> Dataset`."""

    name: str
    recognises: Callable[[epath.Path], bool]
    module: str


def _holds(*names: str) -> Callable[[epath.Path], bool]:
    return lambda path: all((path / name).exists() for name in names)


FORMATS = (
    Format("jaxrl cache", _holds("cache.json"), "jaxrl_data.cache.reader"),
    Format("RLDS", _holds("dataset_info.json", "features.json"), "jaxrl_data.rlds.reader"),
    Format("LeRobot", _holds("meta/info.json"), "jaxrl_data.lerobot.reader"),
    Format("zarr", lambda path: (path / ".zgroup").exists() or (path / "zarr.json").exists(), "jaxrl_data.importers.zarr"),
    Format("HDF5", lambda path: path.suffix in (".hdf5", ".h5") or any(path.glob("*.hdf5")), "jaxrl_data.importers.hdf5"),
)


def _module(path: str) -> object:
    at = epath.Path(path)
    if not at.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    for one in FORMATS:
        if one.recognises(at):
            return import_module(one.module)
    known = ", ".join(one.name for one in FORMATS)
    raise ValueError(f"{path}: is no data set of a format that is known here ({known}); name the folder that holds its metadata")


def splits(path: str) -> tuple[str, ...]:
    """The names of the splits of a data set. Raises as `open_dataset`."""
    return _module(path).splits(path)  # type: ignore[attr-defined]


def open_dataset(path: str, split: str | None = None) -> Dataset:
    """One split of the data set at `path`, a folder or file, local or in a cloud; without a name the first one. Reads metadata only.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: the format or its version is not known, metadata are missing or damaged, or there is no such split.
    """
    module = _module(path)
    names = module.splits(path)  # type: ignore[attr-defined]
    if split is not None and split not in names:
        raise ValueError(f"{path}: has no split {split!r}; {suggestion(split, names)}")
    return module.read(path, split or names[0])  # type: ignore[attr-defined]
