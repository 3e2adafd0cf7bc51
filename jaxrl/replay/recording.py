"""Recorded episodes and their file: what `jaxrl eval --record` writes and imitation reads.

The file is an .npz with one row per step, the episodes one after the other: `observation/<name>` [N, ...], `action` [N, A], `reward` [N];
one per episode: `episode_ends` [E] (the row after its last), `final_observation/<name>` [E, ...] (what followed its last action) and
`terminated` [E] (whether it ended by itself); and `spec`, the JSON of the policy's spec. Older files do not tell how episodes ended, which
imitation does not need.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl.files import written_whole
from jaxrl.ops import running_statistics, specs
from jaxrl.ops.held_out import held_out
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.types import ArraySpec, PolicySpec

PREFIX, FINAL = "observation/", "final_observation/"
Part = Literal["train", "validation", "all"]


class Recording(NamedTuple):
    """Episodes as numpy arrays, one row per step, one episode after the other."""

    observation: dict[str, np.ndarray]  # [N, ...] by name; row t is what was seen before action t
    action: np.ndarray  # [N, A]
    reward: np.ndarray  # [N]
    episode_ends: np.ndarray  # [E] int64, ascending, the last one is N
    spec: PolicySpec  # of the policy, with the privileged groups that were recorded beside what it saw
    final_observation: dict[str, np.ndarray] = {}  # [E, ...] what followed each episode's last action
    terminated: np.ndarray | None = None  # [E] bool: ended by itself, and was not cut; None, as above {}, where that is not known


def _endings(recording: Recording) -> dict[str, np.ndarray]:
    if recording.terminated is None:
        return {}
    final = {f"{FINAL}{name}": array for name, array in recording.final_observation.items()}
    return final | {"terminated": recording.terminated}


def _arrays(recording: Recording) -> dict[str, np.ndarray]:
    observation = {f"{PREFIX}{name}": array for name, array in recording.observation.items()}
    return observation | {"action": recording.action, "reward": recording.reward}


def stored(recording: Recording) -> dict[str, np.ndarray]:
    """All that the file holds but `spec`, by the names that it has there."""
    return _arrays(recording) | _endings(recording) | {"episode_ends": recording.episode_ends.astype(np.int64)}


def check(recording: Recording, where: str) -> None:
    """Raises ValueError, which begins with `where`, if the arrays are empty, disagree with the spec or each other, or are not finite."""
    ends, arrays = recording.episode_ends, _arrays(recording)
    needed = {f"{PREFIX}{name}": part for name, part in recording.spec.observation.items()}
    needed |= {"action": recording.spec.action, "reward": ArraySpec(())}
    if missing := needed.keys() - arrays.keys():
        raise ValueError(f"{where}: lacks {', '.join(sorted(missing))}, which its spec names; record it again")
    if unknown := arrays.keys() - needed.keys():
        raise ValueError(f"{where}: holds {', '.join(sorted(unknown))}, which its spec does not name; add it there or leave it out")
    if ends.size == 0 or ends[-1] == 0:
        raise ValueError(f"{where}: holds no steps; record at least one episode")
    if ends.ndim != 1 or (np.diff(ends, prepend=0) <= 0).any():
        raise ValueError(f"{where}: episode_ends must ascend from above 0, one entry per episode, got {ends[:10]}")
    for name, part in needed.items():
        array, shape = arrays[name], (int(ends[-1]), *part.shape)
        if array.shape != shape:
            raise ValueError(f"{where}: {name} has the shape {array.shape}, but episode_ends and the spec ask for {shape}")
        if str(array.dtype) != part.dtype:
            raise ValueError(f"{where}: {name} is {array.dtype}, but its spec says {part.dtype}")
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            episode = int(np.searchsorted(ends, row, side="right"))
            raise ValueError(f"{where}: {name} is not finite at row {row}, in episode {episode}; leave that episode out")
    _check_endings(recording, where)


def _check_endings(recording: Recording, where: str) -> None:
    found = _endings(recording)
    if not found:
        return
    needed = {f"{FINAL}{name}": part for name, part in recording.spec.observation.items()} | {"terminated": ArraySpec((), "bool")}
    for name in sorted(needed.keys() ^ found.keys()):
        raise ValueError(f"{where}: {name} is {'missing' if name in needed else 'not in its spec'}; record it again")
    for name, part in needed.items():
        array, shape = found[name], (len(recording.episode_ends), *part.shape)
        if array.shape != shape or str(array.dtype) != part.dtype:
            raise ValueError(f"{where}: {name} is {array.dtype} {array.shape}, but its spec asks for {part.dtype} {shape}")
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise ValueError(f"{where}: {name} is not finite; leave out the episodes that ended so")


def save(path: str | Path, recording: Recording) -> None:
    """Writes the file whole or not at all.

    Raises:
        ValueError: the recording is faulty, see `check`.
        OSError: the file cannot be written.
    """
    path = Path(path)
    check(recording, str(path))
    whole: dict[str, Any] = stored(recording)
    with written_whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **whole, spec=np.array(specs.to_json(recording.spec)))


def load(path: str | Path) -> Recording:
    """Reads the file and checks it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no recording, or a faulty one, see `check`.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: there is no such recording; `jaxrl eval <workdir> --record` writes one")
    try:
        with open(path, "rb") as whole, np.load(whole, allow_pickle=False) as file:  # np.load leaves a damaged file open
            arrays = dict(file)
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: is no whole .npz file ({error})") from error
    if missing := {"action", "reward", "episode_ends", "spec"} - arrays.keys():
        raise ValueError(f"{path}: lacks {', '.join(sorted(missing))}; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    try:
        spec = specs.from_json(str(arrays["spec"]))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    observation = {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
    recording = Recording(observation, arrays["action"], arrays["reward"], arrays["episode_ends"], spec)
    if "terminated" in arrays:
        final = {name.removeprefix(FINAL): array for name, array in arrays.items() if name.startswith(FINAL)}
        recording = recording._replace(final_observation=final, terminated=arrays["terminated"])
    check(recording, str(path))
    return recording


def public(recording: Recording) -> Recording:
    """Without privileged groups: what a policy may learn from."""

    def shown(table: Any) -> dict[str, Any]:
        return {name: part for name, part in table.items() if not name.startswith("privileged/")}

    spec = recording.spec._replace(observation=shown(recording.spec.observation))
    return recording._replace(observation=shown(recording.observation), final_observation=shown(recording.final_observation), spec=spec)


def episodes(recording: Recording, numbers: Sequence[int]) -> Recording:
    """These episodes alone, one after the other."""
    rows = [np.arange(first, end) for first, end in zip([0, *recording.episode_ends[:-1]], recording.episode_ends, strict=True)]
    at = np.concatenate([rows[number] for number in numbers])
    chosen = np.asarray(numbers)
    return recording._replace(
        observation={name: array[at] for name, array in recording.observation.items()},
        action=recording.action[at],
        reward=recording.reward[at],
        episode_ends=np.cumsum([len(rows[number]) for number in numbers], dtype=np.int64),
        final_observation={name: array[chosen] for name, array in recording.final_observation.items()},
        terminated=None if recording.terminated is None else recording.terminated[chosen],
    )


def _hash(recording: Recording, first: int, end: int) -> bytes:
    """Of what a policy may see of an episode, and of what was done."""
    found = hashlib.blake2b(recording.action[first:end].tobytes(), digest_size=8)
    for name, array in sorted(recording.observation.items()):
        if not name.startswith("privileged/"):
            found.update(array[first:end].tobytes())
    return found.digest()


def part_of(recording: Recording, part: Part, validation: float) -> Recording:
    """The episodes of a part, where a share `validation` of them is held out by their contents, as `jaxrl_data` does it.

    Raises ValueError where none is left.
    """
    if part == "all" or (part == "train" and not validation):
        return recording
    ends = recording.episode_ends.tolist()
    hashes = b"".join(_hash(recording, first, end) for first, end in zip([0, *ends[:-1]], ends, strict=True))
    out = held_out(np.frombuffer(hashes, np.uint8).reshape(len(ends), 8), validation)
    numbers = np.flatnonzero(out if part == "validation" else ~out)
    if not numbers.size:
        raise ValueError(f"no episode is left for {part}; a share of {validation} of {len(ends)} episodes is held out")
    return episodes(recording, numbers.tolist())


def constant(recording: Recording) -> tuple[str, ...]:
    """The dimensions of the action that never change."""
    still = np.flatnonzero((recording.action == recording.action[:1]).all(0).reshape(-1)).tolist()
    names = recording.spec.action.names
    return tuple(names[place] if names else str(place) for place in still)


def statistics(recording: Recording, scale: str = "z_score") -> RunningStatistics:
    """Of every floating-point observation and of `action` over all steps, mean and variance; with the scale "bounds" the middle of their
    range, and the square of half its width.
    """
    arrays = {name: jnp.asarray(array) for name, array in recording.observation.items()} | {"action": jnp.asarray(recording.action)}
    part = {name: ArraySpec(array.shape[1:], str(array.dtype)) for name, array in arrays.items()}
    if scale == "z_score":
        return running_statistics.update(running_statistics.init(part), arrays)
    whole = running_statistics.init(part)
    ends = {name: (arrays[name].min(0), arrays[name].max(0)) for name in whole.mean}
    middle = {name: (low + high) / 2 for name, (low, high) in ends.items()}
    return whole._replace(mean=middle, variance={name: jnp.square((high - low) / 2) for name, (low, high) in ends.items()})
