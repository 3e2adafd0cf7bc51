"""Settings of every test: they must stand before jax starts."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

from jaxtyping import install_import_hook

from tests.typechecker import check

# Checks the annotations of every call, and jaxtyping's shapes where there are some. Before anything of ours is imported.
install_import_hook(["jaxrl", "jaxrl_envs"], f"{check.__module__}.{check.__name__}")

from jaxrl_envs.xla_flags import xla_flags  # noqa: E402

os.environ["XLA_FLAGS"] = f"{xla_flags()} --xla_force_host_platform_device_count=4"
# Most of a fast test's time is compilation: code that is not optimised is there a third sooner. Learning runs set the level themselves.
if "--xla_backend_optimization_level" not in os.environ["XLA_FLAGS"]:
    os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
CACHE = Path(__file__).parents[1] / ".cache"
os.environ["WARP_CACHE_PATH"] = str(CACHE / "warp")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(CACHE / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


ROOMY = 2 * 2**30  # bytes


@pytest.fixture(scope="module", autouse=True)
def _forget_programs() -> Iterator[None]:
    """Compiled programs stay in memory for as long as the process, hundreds of them: past ROOMY bytes each file starts without."""
    yield
    if _resident() > ROOMY:
        jax.clear_caches()
        gc.collect()


def _resident() -> int:
    """Bytes that this process holds now; 0 where the system does not tell."""
    told = Path("/proc/self/statm")
    return int(told.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if told.exists() else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests marked gpu where JAX has none. What is known to take long begins first, so that no process is left alone with it."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu and not _has_gpu():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="JAX has no GPU here"))


def _has_gpu() -> bool:
    try:
        return bool(jax.devices("gpu"))
    except RuntimeError:
        return False


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of small real robot data sets, named by JAXRL_TEST_DATA."""
    folder = os.environ.get("JAXRL_TEST_DATA")
    if not folder:
        pytest.skip("JAXRL_TEST_DATA does not name the folder of test data")
    return Path(folder)
