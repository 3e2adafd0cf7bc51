"""A folder of checkpoints, without Orbax and without starting JAX: the steps that are there, and the document of each."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FORMAT = 1
DOCUMENT = "document"
TRASH = "deleted"


def leftovers(directory: str | os.PathLike[str]) -> list[Path]:
    """What saves and deletions that were cut off have left behind. Not part of any checkpoint; removed by `open_checkpoints`."""
    root = Path(directory)
    return sorted([*root.glob("*.orbax-checkpoint-tmp*"), *root.glob(f"{TRASH}/*")])


def saved_steps(directory: str | os.PathLike[str]) -> list[int]:
    """The steps of which there is a whole checkpoint, ascending. Starts neither Orbax nor JAX, and changes nothing."""
    root = Path(directory)
    return sorted(int(path.name) for path in root.iterdir() if path.name.isdigit()) if root.is_dir() else []


def read_meta(directory: str | os.PathLike[str], step: int | None = None) -> dict[str, Any]:
    """The JSON document saved with a checkpoint, the latest if `step` is None. Starts neither Orbax nor JAX, and changes nothing.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: it is damaged.
    """
    step = choose(Path(directory), saved_steps(directory), step)
    path = Path(directory) / str(step)
    try:
        return read_document(path)["meta"]
    except (OSError, ValueError) as error:
        raise ValueError(f"checkpoint {path} is damaged: {error}") from error


def choose(directory: Path, steps: Sequence[int], step: int | None) -> int:
    """`step`, or the latest of `steps` if it is None. Raises FileNotFoundError where it is none of them."""
    if not steps:
        raise FileNotFoundError(f"there is no checkpoint in {directory}")
    if step is not None and step not in steps:
        raise FileNotFoundError(f"there is no checkpoint of step {step} in {directory}, but of {', '.join(map(str, steps))}")
    return steps[-1] if step is None else step


def read_document(path: Path) -> dict[str, Any]:
    """The document of one checkpoint. Raises OSError or ValueError where it is damaged."""
    document = json.loads((path / DOCUMENT / "metadata").read_text())
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"its document is not of format {FORMAT}")
    return document


def score_of(path: Path) -> float | None:
    """The score of one checkpoint; None where it has none."""
    try:
        return read_document(path)["score"]
    except (OSError, ValueError):
        return None  # a damaged checkpoint is not the best; reading it says that it is damaged


def make_document(meta: Mapping[str, Any], parts: Mapping[str, Any], score: float | None) -> dict[str, Any]:
    """What `read_document` reads; `parts` describes the arrays. Raises ValueError where `meta` is no JSON."""
    document = {"format": FORMAT, "meta": meta, "parts": parts, "score": score}
    try:
        return json.loads(json.dumps(document))
    except TypeError as error:
        raise ValueError(f"the meta of a checkpoint must be plain JSON: {error}") from error
