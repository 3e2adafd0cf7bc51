"""What happens in an environment as a data set, written to RLDS or LeRobot episode by episode, while it happens.

Only the episodes that are being played are in memory. A process that is killed loses those; the next one goes on behind the others.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import PolicySpec
from jaxrl_data import record
from jaxrl_data.convert import Progress, convert, into_lerobot, into_rlds
from jaxrl_data.dataset import Dataset
from jaxrl_data.episode import Episode, Features, chosen, with_columns
from jaxrl_data.rlds.writer_apart import rlds_writer_apart
from jaxrl_data.writer import Writer

FORMATS = ("rlds", "lerobot")
INSTRUCTION = "language_instruction"  # the text of every step, where the task is told in words
Play = Callable[[int, int], Iterator[Mapping[str, np.ndarray]]]  # (first, last) -> of episodes first to last - 1, the arrays of `record`


def played(name: str, spec: PolicySpec, size: int, play: Play, fingerprint: str, instruction: str = "") -> Dataset:
    """Episodes that a policy plays when they are read.

    `spec` is that of the policy, with all observations that are recorded. `fingerprint` tells what the episodes follow from, such as
    environment, policy and seed: others do not go behind these.
    """
    features = record.columns(spec, (INSTRUCTION,) if instruction else ())

    def read(first: int, last: int, columns: Iterable[str] | None = None) -> Iterator[Episode]:
        wanted = chosen(features, columns)
        for number, arrays in enumerate(play(first, last), first):
            yield with_columns(record.made(number, name, f"{name}/{number}", arrays, features, instruction), wanted)

    return Dataset(name, "train", features, size, read, fingerprint)


def recorder(path: str, to: str, features: Features, name: str, *, fps: int = 0, fingerprint: str = "", **options: object) -> Writer:
    """A writer for columns by the names of an environment or robot, such as observation/state/joints: whole episodes, or step by step.

    `to` is rlds or lerobot, `name` that of environment or robot. `fps` is for LeRobot, where `features` do not tell a rate. `options` are
    those of `rlds_writer` or `lerobot_writer`.

    Raises:
        ValueError: the folder holds something else, or the format has no place for a column.
    """
    return _writer(Dataset(name, "train", features, 0, lambda first, last, columns=None: iter(()), fingerprint), path, to, fps, options)


def write(dataset: Dataset, path: str, to: str, *, fps: int = 0, progress: Progress | None = None, **options: object) -> int:
    """Writes the episodes that the folder has not yet, each as soon as it is read, and says how many; arguments as for `recorder`."""
    writer = _writer(dataset, path, to, fps, options)
    try:
        return convert(dataset, writer, progress)
    finally:
        writer.close()


def _writer(dataset: Dataset, path: str, to: str, fps: int, options: Mapping[str, object]) -> Writer:
    if to == "rlds":
        return into_rlds(dataset, path, _tfds_name(dataset.name), make=rlds_writer_apart, **options)  # type: ignore[arg-type]
    if to == "lerobot":
        return into_lerobot(dataset, path, dataset.name, fps=fps, **options)  # type: ignore[arg-type]
    raise ValueError(f"{to!r} is no format to record; {suggestion(to, FORMATS)}")


def _tfds_name(name: str) -> str:
    """TFDS takes small letters, digits and _, beginning with a letter."""
    words = "_".join(re.findall("[a-z0-9]+", re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()))
    return words if words[:1].isalpha() else f"set_{words}"
