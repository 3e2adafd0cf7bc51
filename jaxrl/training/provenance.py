"""What made a run: its config, which code and which packages."""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jaxrl
from jaxrl.config import difference, plain
from jaxrl.ops import specs
from jaxrl.types import PolicySpec

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "mujoco", "mujoco-mjx", "dm_control")
_CODE = ("jaxrl", "envs", "data")
_ROOT = Path(jaxrl.__file__).resolve().parents[1]


class CodeVersion(NamedTuple):
    """The state of a git checkout."""

    commit: str
    changes: str  # digest of what under jaxrl/, envs/ and data/ differs from the commit, new files included; "" where nothing does


def meta(config: Any, spec: PolicySpec) -> dict[str, Any]:
    """What goes into every checkpoint of a run, as plain JSON."""
    return {"config": plain(config), "spec": specs.to_json(spec), "versions": versions(), "code_version": code_version()}


def refuse_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raises ValueError that lists in what the meta of a checkpoint and that of this run differ: the config, a package, the code."""
    before, now = (json.loads(json.dumps(plain({k: m.get(k) for k in ("config", "versions", "code_version")}))) for m in (old, new))
    lines = [line.removeprefix("checkpoint.") for line in difference(before, now, "checkpoint")]
    if lines:
        raise ValueError("the checkpoint is of another config or code, so the run would not go on as it began:\n  " + "\n  ".join(lines))


def versions(*more: str) -> dict[str, str | None]:
    """The version of Python, jaxrl and each package that a result depends on, without importing it; None where it is not installed."""
    return {"python": platform.python_version(), "jaxrl": jaxrl.__version__} | {name: _version(name) for name in (*_PACKAGES, *more)}


def code_version(root: Path = _ROOT) -> CodeVersion | None:
    """The git state of the checkout at `root`; None where the code was installed, nothing is committed or git is missing."""
    # An installed package may lie inside somebody else's repository, which does not track it.
    if _git(root, "ls-files", "--error-unmatch", "jaxrl/__init__.py") is None:
        return None
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "diff", "HEAD", "--binary", "--", *_CODE)
    new = _git(root, "ls-files", "--others", "--exclude-standard", "--", *_CODE)
    if commit is None or changes is None or new is None:
        return None
    if not changes and not new:
        return CodeVersion(commit, "")
    digest = hashlib.sha256(changes.encode())
    for name in new.splitlines():
        digest.update(name.encode() + (root / name).read_bytes())
    return CodeVersion(commit, digest.hexdigest()[:12])


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
