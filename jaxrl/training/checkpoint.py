"""Checkpoints: whole or absent, written while training goes on, bit-exact.

A checkpoint holds parts, such as `train_state` and `source_state`, each a tree of arrays, and one JSON document. Leaves are stored under
their flat names, so a part can be read without knowing the structure of another. It is written beside its place and renamed when complete:
a process killed at any moment leaves the last complete checkpoint. A checksum of each array finds damage that the file format does not.
"""

import contextlib
import logging
import math
import os
import re
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, final

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.ops.paths import flatten_names
from jaxrl.training.checkpoint_folder import DOCUMENT, TRASH, choose, leftovers, make_document, read_document, score_of
from jaxrl.types import PyTree

LISTED = 12  # faults named in one message


def _named(tree: PyTree, part: str) -> dict[str, Any]:
    """Leaves by flat name. Raises ValueError where two leaves share a name or a leaf is no array."""
    count = len(jax.tree.leaves(tree))
    leaves = flatten_names(tree)
    if len(leaves) != count:
        raise ValueError(f"{part} has {count} leaves but only {len(leaves)} names; two of them differ only in where a '/' stands")
    for name, leaf in leaves.items():
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise ValueError(f"{part}/{name} is of type {type(leaf).__name__}, but a checkpoint holds arrays only")
    return leaves


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _checksum(array: Any) -> int | None:
    """CRC-32 of the bytes; None for an array of which other processes hold a part."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return None
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _pack(tree: PyTree, part: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Arrays to store by name, and their description. Keys become their data; arrays without elements are only described."""
    arrays: dict[str, Any] = {}
    described: dict[str, dict[str, Any]] = {}
    for name, leaf in _named(tree, part).items():
        described[name] = {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        if _is_key(leaf):
            described[name]["key"] = str(jax.random.key_impl(leaf))
            leaf = jax.random.key_data(leaf)
        elif not isinstance(leaf, jax.Array):
            leaf = np.asarray(leaf)
        if leaf.size:
            arrays[name] = leaf
            described[name]["crc32"] = _checksum(leaf)
    return arrays, described


def _check_fit(template: dict[str, Any], stored: dict[str, Any], part: str, path: Path) -> None:
    """Raises ValueError that names the leaves in which `template` and a stored part differ."""
    show = lambda shape, dtype: f"{dtype} {list(shape)}"  # noqa: E731
    faults = [f"{part}/{name}: not in the checkpoint" for name in template if name not in stored]
    faults += [f"{part}/{name}: only in the checkpoint" for name in stored if name not in template]
    for name in template.keys() & stored.keys():
        have, need = show(stored[name]["shape"], stored[name]["dtype"]), show(template[name].shape, template[name].dtype)
        if have != need:
            faults.append(f"{part}/{name}: {have} in the checkpoint, {need} here")
    if faults:
        more = [f"... and {len(faults) - LISTED} more"] if len(faults) > LISTED else []
        raise ValueError(f"checkpoint {path} does not fit:\n  " + "\n  ".join([*sorted(faults)[:LISTED], *more]))


def _target(leaf: Any) -> tuple[Any, Any]:
    """Where and as what to read a leaf: a shape or numpy array, and Orbax's arguments for it."""
    import orbax.checkpoint as ocp

    if isinstance(leaf, np.ndarray | np.generic):
        return np.asarray(leaf), ocp.RestoreArgs(restore_type=np.ndarray)
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shape = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    struct = jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)
    return struct, ocp.ArrayRestoreArgs(sharding=sharding, global_shape=shape.shape)


class _Keep(NamedTuple):
    """Decides what Orbax keeps: the last checkpoints and the best, the later of equals."""

    last: int
    best: int
    scores: dict[int, float | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        rated = sorted((score, step) for step in steps if (score := self.scores.get(step)) is not None)
        kept = set(steps[-self.last :]) | {step for _, step in rated[max(0, len(rated) - self.best) :]}
        return [step in kept for step in steps]


def _not_from_orbax(record: logging.LogRecord) -> bool:
    # Orbax logs a traceback for an error that it also raises; the user gets the one line of the exception instead.
    return "orbax" not in record.pathname


@contextlib.contextmanager
def _without_stragglers() -> Iterator[None]:
    # Where one read fails, Orbax closes its event loop before the other reads end, and each of those would print a traceback.
    usual = sys.unraisablehook
    sys.unraisablehook = lambda what: None if "Event loop is closed" in str(what.exc_value) else usual(what)
    try:
        yield
    except Exception:
        time.sleep(0.2)
        raise
    finally:
        sys.unraisablehook = usual


@final
class Checkpoints:
    """The checkpoints of one run; made by `open_checkpoints`. Every method first waits for a save under way and raises its error."""

    def __init__(self, directory: Path, manager: Any, scores: dict[int, float | None], read_only: bool) -> None:
        self._directory = directory
        self._manager = manager
        self._scores = scores  # shared with what decides on deletion
        self._read_only = read_only
        self._saving: int | None = None

    def save(self, step: int, state: Mapping[str, PyTree], meta: Mapping[str, Any], score: float | None = None) -> None:
        """Starts writing checkpoint `step` and returns; the arrays may be donated or overwritten at once.

        `state` holds the parts by name, `meta` is plain JSON, and the best checkpoint is the one of the highest `score`.

        Raises:
            OSError: this save could not begin, or the one before could not be completed.
            ValueError: there is a checkpoint of this step, a leaf is no array, or `meta` is no JSON.
        """
        import orbax.checkpoint as ocp

        self.wait()
        if step in self.steps():
            raise ValueError(f"{self._directory} has a checkpoint of step {step} already; `drop_after` removes those to be made anew")
        packed = {part: _pack(tree, part) for part, tree in state.items()}
        score = None if score is None or not math.isfinite(score) else float(score)
        document = make_document(meta, {part: described for part, (_, described) in packed.items()}, score)
        items = {part: ocp.args.PyTreeSave(arrays) for part, (arrays, _) in packed.items() if arrays}
        items[DOCUMENT] = ocp.args.JsonSave(document)
        self._saving, self._scores[step] = step, score
        try:
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:
            self._clean_up(error)

    def restore(self, template: Mapping[str, PyTree], step: int | None = None) -> tuple[dict[str, PyTree], dict[str, Any]]:
        """The parts named in `template`, shaped and sharded like it, and the meta; of the latest checkpoint if `step` is None.

        A leaf of the template is an array or a `jax.ShapeDtypeStruct`; numpy arrays come back as numpy arrays. Parts that the template
        leaves out are not read: `{"train_state": ...}` alone is enough to evaluate.

        Raises:
            FileNotFoundError: no such checkpoint.
            ValueError: the template does not fit, or the checkpoint is damaged.
        """
        document = self._document(step := self._find(step))
        parts = {part: self._restore_part(step, part, tree, document["parts"]) for part, tree in template.items()}
        return parts, document["meta"]

    def meta(self, step: int | None = None) -> dict[str, Any]:
        """The JSON document saved with a checkpoint, the latest if `step` is None."""
        return self._document(self._find(step))["meta"]

    def shapes(self, part: str, step: int | None = None) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and type of each leaf of a part by flat name."""
        step = self._find(step)
        return {name: (tuple(leaf["shape"]), leaf["dtype"]) for name, leaf in self._part(step, part, self._document(step)["parts"]).items()}

    def steps(self) -> list[int]:
        """The steps of which there is a whole checkpoint, ascending."""
        self.wait()
        if self._read_only:
            self._manager.reload()
        return sorted(self._manager.all_steps())

    def latest(self) -> int | None:
        """The last step of which there is a whole checkpoint."""
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """The step of the highest score, the later of equals; None where no checkpoint has a score."""
        return max(self._rated(), default=(0.0, None))[1]

    def would_be_best(self, score: float) -> bool:
        """Whether no checkpoint has as high a score."""
        return all(score > other for other, _ in self._rated())

    def _rated(self) -> list[tuple[float, int]]:
        """Scores and steps of the checkpoints that have one."""
        steps = self.steps()
        for step in steps:
            self._scores.setdefault(step, score_of(self._directory / str(step)))
        return [(score, step) for step in steps if (score := self._scores[step]) is not None]

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints later than `step`: a run that goes on from there will write them anew."""
        for later in reversed(self.steps()):
            if later > step:
                self._manager.delete(later)
        _empty_trash(self._directory)

    def wait(self) -> None:
        """Returns when no save is under way. Raises OSError where the last one failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._clean_up(error)
        self._saving = None

    def close(self) -> None:
        """Waits, raises what the last save has to say, and lets go of the threads."""
        try:
            self.wait()
        finally:
            self._manager.close()
            if not self._read_only:
                _empty_trash(self._directory)

    def _clean_up(self, error: Exception) -> NoReturn:
        step, self._saving = self._saving, None
        for path in self._directory.glob(f"{step}.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)  # on a full disk this gives the space back
        self._manager.reload()
        text = str(error)
        system = re.search(r"os_error_code='(\d+)'", text)
        number = error.errno if isinstance(error, OSError) else int(system.group(1)) if system else None
        reason = os.strerror(number) if number else f"{type(error).__name__}: {text.partition(chr(10))[0]}"
        message = f"checkpoint {step} could not be written to {self._directory}: {reason}. The checkpoints before it are whole."
        raise (OSError(number, message) if number else OSError(message)) from error

    def _find(self, step: int | None) -> int:
        return choose(self._directory, self.steps(), step)

    def _read(self, step: int, items: dict[str, Any]) -> Any:
        import orbax.checkpoint as ocp

        try:
            with _without_stragglers():
                return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:
            raise self._damaged(step, error) from error

    def _document(self, step: int) -> dict[str, Any]:
        try:
            return read_document(self._directory / str(step))
        except (OSError, ValueError) as error:
            raise self._damaged(step, error) from error

    def _damaged(self, step: int, reason: object) -> ValueError:
        line = (str(reason).splitlines() or [type(reason).__name__])[0][:300]
        others = ", ".join(str(other) for other in self.steps() if other != step)
        choice = f"there are others, of the steps {others}" if others else "there is no other"
        return ValueError(f"checkpoint {self._directory / str(step)} is damaged: {line}; {choice}")

    def _part(self, step: int, part: str, stored: dict[str, Any]) -> dict[str, Any]:
        if part not in stored:
            raise ValueError(f"checkpoint {self._directory / str(step)} has no {part}, but {', '.join(stored)}")
        return stored[part]

    def _restore_part(self, step: int, part: str, template: PyTree, stored: dict[str, Any]) -> PyTree:
        import orbax.checkpoint as ocp

        described, leaves = self._part(step, part, stored), _named(template, part)
        _check_fit(leaves, described, part, self._directory / str(step))
        targets = {name: _target(leaf) for name, leaf in leaves.items()}
        full = {name: target for name, target in targets.items() if math.prod(target[0].shape)}
        read: dict[str, Any] = {}
        if full:
            shapes, arguments = ({name: target[k] for name, target in full.items()} for k in range(2))
            read = self._read(step, {part: ocp.args.PyTreeRestore(item=shapes, restore_args=arguments)})[part]
        for name, array in read.items():
            expected, found = described[name].get("crc32"), _checksum(array)
            if None not in (expected, found) and expected != found:
                raise self._damaged(step, f"{part}/{name} is not what was saved")
        for name in targets.keys() - full.keys():
            empty = targets[name][0]
            read[name] = np.zeros(empty.shape, empty.dtype)
            if not isinstance(empty, np.ndarray):
                read[name] = jax.device_put(read[name], empty.sharding)
        for name, leaf in described.items():
            if "key" in leaf:
                read[name] = jax.random.wrap_key_data(read[name], impl=leaf["key"])
        return jax.tree.unflatten(jax.tree.structure(template), [read[name] for name in leaves])


def _empty_trash(directory: Path) -> None:
    """Removes what was deleted. Deletion is a rename into the trash first, so that no checkpoint is ever seen half deleted."""
    if jax.process_index() == 0:
        for path in directory.glob(f"{TRASH}/*"):
            shutil.rmtree(path, ignore_errors=True)


def _prepare(directory: Path) -> None:
    """Makes the directory, proves that it can be written to and removes leftovers."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot write checkpoints to {directory}: {error.strerror}") from error
    if jax.process_index() == 0:
        for path in leftovers(directory):
            shutil.rmtree(path, ignore_errors=True)


def open_checkpoints(directory: str | os.PathLike[str], keep_last: int = 3, keep_best: int = 1, read_only: bool = False) -> Checkpoints:
    """The checkpoints in `directory`, of which the last `keep_last` and the `keep_best` with the highest scores are kept.

    With `read_only` nothing is made, cleaned or deleted, so another process may be writing there.

    Raises OSError where the directory cannot be written to, or is not there to be read.
    """
    import orbax.checkpoint as ocp

    if keep_last < 1 or keep_best < 0:
        raise ValueError(f"keep_last is {keep_last} and keep_best {keep_best}, but at least 1 and 0 are needed")
    logging.getLogger("absl").addFilter(_not_from_orbax)
    root = Path(directory).absolute()
    if read_only and not root.is_dir():
        raise FileNotFoundError(f"there is no directory {root} to read checkpoints from")
    if not read_only:
        _prepare(root)
    scores: dict[int, float | None] = {}
    options = ocp.CheckpointManagerOptions(
        preservation_policy=_Keep(keep_last, keep_best, scores),
        todelete_subdir=None if read_only else TRASH,
        async_options=ocp.AsyncOptions(post_finalization_callback=lambda: _empty_trash(root)),
        read_only=read_only,
        create=not read_only,
        save_interval_steps=0 if read_only else 1,
    )
    checkpoints = Checkpoints(root, ocp.CheckpointManager(root, options=options), scores, read_only)
    if not read_only:
        scores |= {step: score_of(root / str(step)) for step in checkpoints.steps()}
    return checkpoints
