"""Any data set by its path: which reader it needs is told by the files that lie there."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import NamedTuple

from etils import epath

from jaxrl.ops.suggestion import suggestion
from jaxrl_data.dataset import Dataset


class Format(NamedTuple):
    """How a format is known, and the module that reads it: with `splits(path) -> tuple[str, ...]` and `read(path, split) -> Dataset`.

    Where reading imports what a training process must not, the module `apart` has a `reading()` with the same `read` and a `close`.
    """

    name: str
    recognises: Callable[[epath.Path], bool]
    module: str
    apart: str = ""


def _holds(*names: str) -> Callable[[epath.Path], bool]:
    return lambda path: all((path / name).exists() for name in names)


FORMATS = (
    Format("jaxrl cache", _holds("cache.json"), "jaxrl_data.cache.reader"),
    Format("RLDS", _holds("dataset_info.json", "features.json"), "jaxrl_data.rlds.reader", "jaxrl_data.rlds.stream"),
    Format("LeRobot", _holds("meta/info.json"), "jaxrl_data.lerobot.reader"),
    Format("zarr", lambda path: (path / ".zgroup").exists() or (path / "zarr.json").exists(), "jaxrl_data.importers.zarr"),
    Format("HDF5", lambda path: path.suffix in (".hdf5", ".h5") or any(path.glob("*.hdf5")), "jaxrl_data.importers.hdf5"),
    Format("jaxrl recording", lambda path: path.suffix == ".npz", "jaxrl_data.record"),
)


_BEGUN = ("plan.json", ".parts", "meta/jaxrl.json", "jaxrl.json")  # what writers leave before there is something to read


class Apart(NamedTuple):
    """Data sets for a process that trains."""

    datasets: dict[str, Dataset]  # thread-safe, as long as no generator is shared
    close: Callable[[], None]


def _format(path: str) -> Format:
    at = epath.Path(path)
    if not at.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    for one in FORMATS:
        if one.recognises(at):
            return one
    if any((at / name).exists() for name in _BEGUN):
        raise ValueError(f"{path}: a data set was begun here and is not whole yet; go on with the command that writes it")
    known = ", ".join(one.name for one in FORMATS)
    raise ValueError(f"{path}: is no data set of a format that is known here ({known}); name the folder that holds its metadata")


def splits(path: str) -> tuple[str, ...]:
    """The names of the splits of a data set. Raises as `open_dataset`."""
    return import_module(_format(path).module).splits(path)


def open_dataset(path: str, split: str | None = None) -> Dataset:
    """One split of the data set at `path`, a folder or file, local or in a cloud; without a name the first one. Reads metadata only.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: the format or its version is not known, metadata are missing or damaged, or there is no such split.
    """
    module = import_module(_format(path).module)
    return module.read(path, _split(path, split))


def _split(path: str, split: str | None) -> str:
    names = splits(path)
    if split is not None and split not in names:
        raise ValueError(f"{path}: has no split {split!r}; {suggestion(split, names)}")
    return split or names[0]


def open_apart(asked: Mapping[str, tuple[str, str | None]]) -> Apart:
    """{name: (path, split)}, each as by `open_dataset`, but without TensorFlow in this process. Raises the same."""
    shared = {}
    datasets = {}
    for name, (path, split) in asked.items():
        found = _format(path)
        if found.apart and found.apart not in shared:
            shared[found.apart] = import_module(found.apart).reading()
        source = shared[found.apart] if found.apart else import_module(found.module)
        datasets[name] = source.read(path, _split(path, split))

    def close() -> None:
        for one in shared.values():
            one.close()

    return Apart(datasets, close)
