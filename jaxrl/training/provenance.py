"""Which code and which packages made a run."""

import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import NamedTuple

import jaxrl

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "mujoco", "mujoco-mjx")
_CODE = ("jaxrl", "envs", "data")
_ROOT = Path(jaxrl.__file__).resolve().parents[1]


class CodeVersion(NamedTuple):
    """The state of a git checkout."""

    commit: str
    changes: str  # digest of what under jaxrl/, envs/ and data/ differs from the commit, new files included; "" where nothing does


def versions() -> dict[str, str | None]:
    """The version of Python, jaxrl and each package that a result depends on, without importing it; None where it is not installed."""
    return {"python": platform.python_version(), "jaxrl": jaxrl.__version__} | {name: _version(name) for name in _PACKAGES}


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
