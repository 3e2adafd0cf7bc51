"""What the distribution promises: it imports light, and says which code and packages made a run."""

import ast
import configparser
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxrl
from jaxrl.training import provenance

HEAVY = ("mujoco", "tensorflow", "grpc")
ROOT = Path(jaxrl.__file__).parents[1]


def _loaded_by(statements: str) -> set[str]:
    """Top-level names in sys.modules after the statements, in a process of its own."""
    script = f"import sys\n{statements}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_import_loads_nothing_heavy():
    loaded = _loaded_by("import jaxrl")
    assert "jaxrl" in loaded
    assert not loaded & {*HEAVY, "jax", "flax", "optax"}


def test_no_module_of_the_library_loads_mujoco_tensorflow_or_grpc():
    modules = [module.name for module in pkgutil.walk_packages(jaxrl.__path__, "jaxrl.")]
    assert "jaxrl.types" in modules
    loaded = _loaded_by("\n".join(f"import {name}" for name in modules if not name.startswith("jaxrl.deploy")))
    assert not loaded & {*HEAVY, "jaxrl_envs", "jaxrl_data"}


def _packages(requirements: str) -> set[str]:
    """The names in a list of setup.cfg."""
    lines = (line.strip() for line in requirements.splitlines())
    return {re.split(r"[\[<>=;\s]", line)[0].lower() for line in lines if line and not line.startswith("#")}


def _imported(file: Path) -> set[str]:
    """Top-level names of everything that a file imports, inside its functions too."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.partition(".")[0] for name in plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}}


def test_what_the_library_imports_is_required_or_said_to_be_in_an_extra():
    """A file that takes something from an extra says so: pip install "jaxrl[extra]"."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = _packages(setup["options"]["install_requires"])
    extras = {name: _packages(packages) for name, packages in setup["options.extras_require"].items()}
    distributions = importlib.metadata.packages_distributions()
    files = sorted((ROOT / "jaxrl").rglob("*.py"))
    assert len(files) > 100
    missing = []
    for file in files:
        said = set().union(*(extras[extra] for extra in re.findall(r"jaxrl\[(\w+)\]", file.read_text())))
        for name in sorted(_imported(file) - sys.stdlib_module_names - {"jaxrl"}):
            if not {found.lower() for found in distributions.get(name, [name])} & (required | said):
                missing.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not missing


def test_versions_name_what_is_installed():
    versions = provenance.versions()
    assert versions["jax"] == importlib.metadata.version("jax")
    assert versions["jaxrl"] == jaxrl.__version__
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(provenance, "_PACKAGES", ("no-such-package",))
    assert provenance.versions()["no-such-package"] is None


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    for folder in ("jaxrl", "envs", "data", "runs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    return tmp_path


def test_code_version_of_a_checkout(checkout):
    commit, changes = provenance.code_version(checkout)
    assert len(commit) == 40 and not changes
    (checkout / "runs" / "notes.txt").write_text("not code")
    assert provenance.code_version(checkout) == (commit, "")
    seen = set()
    for name, text in (("new.py", "code"), ("new.py", "other code"), ("__init__.py", "changed")):
        (checkout / "envs" / name).write_text(text)
        seen.add(provenance.code_version(checkout))
    assert len(seen) == 3 and {version.commit for version in seen} == {commit} and all(version.changes for version in seen)


def test_code_outside_a_checkout_has_no_version(checkout):
    installed = checkout / "lib" / "site-packages"
    (installed / "jaxrl").mkdir(parents=True)
    (installed / "jaxrl" / "__init__.py").touch()
    assert provenance.code_version(installed) is None
    assert provenance.code_version(Path("/")) is None


def test_another_config_package_or_code_is_refused_with_its_difference():
    old = {"config": {"algorithm": {"rate": 0.1, "sizes": [1, 2]}}, "versions": {"jax": "0.10.2"}, "code_version": ["abc", ""], "update": 3}
    new = {"config": {"algorithm": {"rate": 0.1, "sizes": (1, 2)}}, "versions": {"jax": "0.10.2"}, "code_version": ("abc", "")}
    provenance.refuse_difference(old, new)
    other = {"config": {"algorithm": {"rate": 0.2, "sizes": (1, 2)}}, "versions": {"jax": "0.10.3"}, "code_version": ("abd", "0f")}
    with pytest.raises(ValueError) as fault:
        provenance.refuse_difference(old, other)
    assert str(fault.value).splitlines()[1:] == [
        "  code_version: ('abc', '') -> ('abd', '0f')",
        "  config.algorithm.rate: 0.1 -> 0.2",
        "  versions.jax: '0.10.2' -> '0.10.3'",
    ]
