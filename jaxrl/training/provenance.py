"""Which code and which packages made a run."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import NamedTuple

import jaxrl

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "mujoco", "mujoco-mjx")
_ROOT = Path(jaxrl.__file__).resolve().parents[1]


class CodeVersion(NamedTuple):
    """The state of a git checkout."""

    commit: str
    dirty: bool  # code under jaxrl/, envs/ or data/ differs from the commit, new files included


def versions() -> dict[str, str | None]:
    """The version of Python, jaxrl and each package that a result depends on, without importing it; None where it is not installed."""
    return {"python": platform.python_version(), "jaxrl": jaxrl.__version__} | {name: _version(name) for name in _PACKAGES}


def code_version(root: Path = _ROOT) -> CodeVersion | None:
    """The git state of the checkout at `root`; None where the code was installed, nothing is committed or git is missing."""
    # An installed package may lie inside somebody else's repository, which does not track it.
    if _git(root, "ls-files", "--error-unmatch", "jaxrl/__init__.py") is None:
        return None
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", "jaxrl", "envs", "data")
    return None if commit is None or changes is None else CodeVersion(commit, bool(changes))


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
