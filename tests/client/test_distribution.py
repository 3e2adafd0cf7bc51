"""The client is a distribution of its own: the same version, few and old packages, no JAX; what is generated is fresh."""

import configparser
import shutil
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import jaxrl
import jaxrl_client
from jaxrl_client.protos import generate

ROOT = Path(jaxrl.__file__).parents[1]
RANGES = {"oldest": ("numpy==1.24.4", "grpcio==1.64.3", "protobuf==4.25.8"), "newest": ("numpy", "grpcio", "protobuf")}
# What a robot's computer does, in a few lines: import everything, say something, hear it over a socket, limit a motion.
TINY = Path(__file__).with_name("tiny_loop.py")


def test_it_has_the_version_of_the_library_which_asks_for_it():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert jaxrl_client.__version__ == jaxrl.__version__
    assert f"jaxrl-client=={jaxrl.__version__}" in setup["options.extras_require"]["serve"].split()


def test_it_loads_no_jax_and_nothing_of_ours():
    modules = sorted(f"jaxrl_client.{file.stem}" for file in Path(jaxrl_client.__file__).parent.glob("[a-z]*.py"))
    assert "jaxrl_client.codec" in modules
    script = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {"jax", "jaxlib", "jaxrl", "jaxrl_envs", "jaxrl_data", "scipy", "flax", "mujoco"}


def test_what_is_generated_is_of_these_proto_files():
    try:
        found = version("grpcio-tools")
    except PackageNotFoundError:
        found = None
    if found != generate.VERSION:
        pytest.skip(f"grpcio-tools is {found}, and not the {generate.VERSION} that the files are generated with")
    expected = generate.generated()
    there = {file.name: file.read_text() for file in generate.HERE.glob("*_pb2*.py*")}
    assert sorted(there) == sorted(expected)
    stale = [name for name in expected if there[name] != expected[name]]
    assert not stale, f"stale: {stale}; run python -m jaxrl_client.protos.generate"


@pytest.mark.slow
@pytest.mark.parametrize("packages", RANGES)
def test_it_runs_where_there_is_no_jax(packages, tmp_path):
    """Built as a wheel, installed in an environment of its own beside the oldest and the newest packages that it allows."""
    venv.create(tmp_path / "robot", with_pip=True)
    python = tmp_path / "robot" / "bin" / "python"
    source = shutil.copytree(ROOT / "client", tmp_path / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    built = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    wheel = subprocess.run(built, capture_output=True, text=True)
    if wheel.returncode and "No matching distribution" in wheel.stderr + wheel.stdout:
        pytest.skip("there is no package index here")
    assert wheel.returncode == 0, wheel.stderr
    (file,) = tmp_path.glob("jaxrl_client-*.whl")
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(file), *RANGES[packages]], check=True, capture_output=True)
    ran = subprocess.run([str(python), "-W", "error", str(TINY)], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip().endswith("no jax")
