"""What networks on top of a PaliGemma begin with: what others have trained, the whole or a part of it, or a run of ours."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxrl.networks import _pretrained
from jaxrl.networks._pretrained import Held, Naming, among, listed
from jaxrl.networks.transformer import openpi, own
from jaxrl.ops.paths import flatten_names, overlay
from jaxrl.types import Key, Params, PyTree

Init = Callable[[Key], tuple[Params, PyTree]]


class _Kind(NamedTuple):
    """What others have trained that is a part of these networks."""

    name: str
    begins: tuple[str, ...]  # with one of which some of its names begin
    naming: Naming
    parts: tuple[str, ...]  # of ours


def _below(part: str, naming: Naming) -> Naming:
    """Of what alone is a model of theirs, and of ours the part of this name."""
    return naming._replace(theirs=lambda path: naming.theirs(path.removeprefix(f"{part}/")))


_SEEING, _PARTS = ("language_model.", "vision_tower.", "multi_modal_projector."), ("vision", "projector", "text")
_KINDS = (
    _Kind("PaliGemma", _SEEING, _pretrained.NAMINGS["paligemma"], _PARTS),
    _Kind("PaliGemma", tuple(f"model.{name}" for name in _SEEING), _pretrained.NAMINGS["paligemma_newer"], _PARTS),
    _Kind("SigLIP", ("vision_model.",), _below("vision", _pretrained.NAMINGS["siglip"]), ("vision",)),
    _Kind("Gemma", ("model.layers.", "model.embed_tokens."), _below("text", _pretrained.NAMINGS["gemma"]), ("text",)),
)
_EXPECTED = "expected a checkpoint's folder of openpi, safetensors of PaliGemma, Gemma or SigLIP, or what `jaxrl weights` has written"
_HINT = "take one of this size, or name in fresh what may begin at random or be left"


def check_fresh(weights: str, fresh: Sequence[str]) -> None:
    """Raises ValueError where patterns `fresh` are given without the `weights` that they are about."""
    if fresh and not weights:
        raise ValueError("fresh: has no effect without weights; leave it out")


def _kind(held: Held) -> _Kind | None:
    """Of what lies in files of safetensors; None for ours."""
    if held.metadata.get("format") == own.FORMAT:
        return None
    for kind in _KINDS:
        if any(name.startswith(kind.begins) for name in held.names):
            return kind
    begin = listed(sorted({".".join(name.split(".")[:2]) for name in held.names}))
    raise ValueError(f"{_EXPECTED}, but names in it begin with {begin or 'nothing'}")


def _of_files(held: Held, template: Params, fresh: Sequence[str]) -> Params:
    """Of safetensors, whoever has trained them."""
    every = (*flatten_names(template), *held.names)
    if unknown := [pattern for pattern in fresh if not any(among((pattern,), name) for name in every)]:
        raise ValueError(f"fresh: the pattern {unknown[0]!r} is found in no parameter, neither of this network nor of the weights")
    kind = _kind(held)
    if kind is not None:
        part = {name: template[name] for name in kind.parts}
        filled, _ = _pretrained.placed((part, {}), kind.naming, held.names, held.read, kind.name, fresh=fresh, hint=_HINT)
        return template | filled
    try:
        return own.placed(held.names, held.read, template, fresh)
    except ValueError as error:
        raise ValueError(f"{error}; {_HINT}") from error


def _is_files(where: Path) -> bool:
    return where.is_file() or any(where.glob("*.safetensors"))


def found(weights: str | Path, template: Params, fresh: Sequence[str] = ()) -> Params:
    """What lies at `weights` as parameters like `template`, which keeps what is not there or `fresh`.

    Raises:
        ValueError: nothing lies there that these networks can begin with, or it is of another model or size; tells how it differs.
    """
    where = Path(weights)
    try:
        if _is_files(where):
            with _pretrained.holding(where) as held:
                return _of_files(held, template, fresh)
        if openpi.is_checkpoint(where):
            return openpi.placed(openpi.read(where), template, fresh)
        inside = sorted(one.name for one in where.iterdir()) if where.is_dir() else []
        there = "nothing lies there" if not where.exists() else f"it is a folder with {listed(inside)}" if inside else "the folder is empty"
        raise ValueError(f"{_EXPECTED}, but {there}")
    except ValueError as error:
        raise ValueError(f"weights {weights}: {error}") from error


def _parts(weights: str) -> tuple[str, ...]:
    """Of our parameters those that come from there; none named are all. What is wrong with it is said by whoever reads it."""
    where = Path(weights)
    try:
        if _is_files(where):
            with _pretrained.holding(where) as held:
                kind = _kind(held)
                return () if kind is None else kind.parts
    except ValueError:
        pass
    return ()


def beginning(init: Init, weights: str, fresh: Sequence[str] = ()) -> Init:
    """`init`, key -> parameters and statistics, with the parameters that lie at `weights`, if it is named, in float32.

    They are read where `init` runs, not where it is traced: whoever only asks for the shapes needs no file. Names alone are, where there
    are some, so that no more is drawn than stays.
    """
    if not weights:
        return init

    def begun(key: Key) -> tuple[Params, PyTree]:
        params, statistics = init(key)
        template, parts = jax.eval_shape(lambda: params), _parts(weights)
        shapes = {
            path: leaf
            for path, leaf in flatten_names(template).items()
            if not among(fresh, path) and (not parts or path.partition("/")[0] in parts)
        }

        def read() -> dict[str, np.ndarray]:
            arrays = flatten_names(found(weights, template, fresh))
            return {path: np.asarray(arrays[path], shape.dtype) for path, shape in shapes.items()}

        return overlay(params, jax.pure_callback(read, shapes)), statistics

    return begun
