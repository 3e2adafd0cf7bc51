"""A checkpoint is whole or absent, bit-exact, and says in one line what is wrong with it."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrl.training.checkpoint import open_checkpoints
from jaxrl.training.checkpoint_folder import leftovers, read_meta, saved_steps


class Extra(NamedTuple):
    target: Any
    nothing: None
    empty: tuple[()]


def _state(seed: int) -> dict[str, Any]:
    """Leaves of every kind that a run may hold."""
    key = jax.random.key(seed)
    odd = jnp.array([jnp.nan, jnp.inf, -0.0, seed], jnp.float32)
    params = {"layer/0": {"kernel": jax.random.normal(key, (3, 2))}, "bias": jnp.full(2, seed, jnp.bfloat16), "odd": odd}
    empty = {"floats": jnp.zeros((0, 3)), "keys": jax.random.split(key, 0)}
    source = (jnp.arange(4, dtype=jnp.uint8) + seed, jnp.array(seed % 2 == 0), jax.random.split(key, (2, 3)), np.arange(3) + seed)
    return {
        "train_state": {"params": params, "extra": Extra(jnp.array(seed, jnp.int32), None, ()), "empty": empty},
        "source_state": source,
        "stateless": (),
    }


def _bits(leaf: Any) -> bytes:
    plain = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return np.asarray(plain).tobytes()


def _assert_same(restored: Any, expected: Any) -> None:
    assert jax.tree.structure(restored) == jax.tree.structure(expected)
    for new, old in zip(jax.tree.leaves(restored), jax.tree.leaves(expected), strict=True):
        assert (new.shape, new.dtype, _bits(new)) == (old.shape, old.dtype, _bits(old))
        assert isinstance(new, np.ndarray) == isinstance(old, np.ndarray)


def _small(step: int) -> dict[str, Any]:
    return {"train_state": {"w": np.full(3, step, np.float32)}}


def _one_line(error: BaseException) -> bool:
    return "\n" not in str(error) and len(str(error)) < 500


def test_restores_every_bit_of_every_kind_of_leaf(tmp_path):
    checkpoints = open_checkpoints(tmp_path)
    checkpoints.save(3, _state(3), {"config": {"rate": 0.1}, "env_steps": 12})
    restored, meta = checkpoints.restore(_state(0))
    _assert_same(restored, _state(3))
    assert meta == {"config": {"rate": 0.1}, "env_steps": 12}
    assert checkpoints.shapes("train_state")["params/bias"] == ((2,), "bfloat16")
    checkpoints.close()


def test_a_part_is_restored_alone_from_shapes(tmp_path):
    checkpoints = open_checkpoints(tmp_path)
    checkpoints.save(1, _state(1), {})
    checkpoints.close()
    reader = open_checkpoints(tmp_path, read_only=True)
    restored, _ = reader.restore({"train_state": jax.eval_shape(lambda: _state(0)["train_state"])})
    _assert_same(restored, {"train_state": _state(1)["train_state"]})
    reader.close()


def test_the_arrays_may_be_donated_as_soon_as_save_returns(tmp_path):
    advance = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    state = advance({"train_state": [jnp.full((300_000,), value) for value in (1.0, 2.0)]})
    checkpoints = open_checkpoints(tmp_path)
    checkpoints.save(1, state, {})
    for _ in range(20):
        state = advance(state)
    jax.block_until_ready(state)
    restored, _ = checkpoints.restore(jax.eval_shape(lambda: state))
    assert [np.unique(array).tolist() for array in restored["train_state"]] == [[2.0], [3.0]]
    checkpoints.close()


def test_numpy_arrays_may_be_overwritten_as_soon_as_save_returns(tmp_path):
    state = {"source_state": np.zeros(500_000)}
    checkpoints = open_checkpoints(tmp_path)
    checkpoints.save(1, state, {})
    state["source_state"][:] = 7
    assert not checkpoints.restore(state)[0]["source_state"].any()
    checkpoints.close()


def test_sharded_arrays_come_back_sharded_on_the_same_or_another_mesh(tmp_path):
    devices = np.array(jax.devices("cpu"))
    assert len(devices) == 4
    over_four = NamedSharding(Mesh(devices, "data"), PartitionSpec("data"))
    over_two = NamedSharding(Mesh(devices[:2], "data"), PartitionSpec(None, "data"))
    x = jnp.arange(32.0).reshape(8, 4)
    checkpoints = open_checkpoints(tmp_path)
    checkpoints.save(1, {"train_state": jax.device_put(x, over_four)}, {})
    for sharding in (over_four, over_two):
        template = {"train_state": jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)}
        restored = checkpoints.restore(template)[0]["train_state"]
        assert restored.sharding == sharding
        np.testing.assert_array_equal(restored, x)
    checkpoints.close()


def test_keeps_the_last_and_the_best_also_when_opened_again(tmp_path):
    scores = {1: 5.0, 2: 9.0, 3: float("nan"), 4: 9.0, 5: 2.0, 6: None, 7: 3.0}
    for step, score in scores.items():
        checkpoints = open_checkpoints(tmp_path, keep_last=2, keep_best=1)
        checkpoints.save(step, _small(step), {}, score)
        checkpoints.close()
    reader = open_checkpoints(tmp_path, read_only=True)
    assert (reader.steps(), reader.best(), reader.latest()) == ([4, 6, 7], 4, 7)
    assert reader.restore(_small(0), 4)[0]["train_state"]["w"].tolist() == [4, 4, 4]
    reader.close()


def test_no_score_no_best(tmp_path):
    checkpoints = open_checkpoints(tmp_path, keep_last=2)
    for step in range(4):
        checkpoints.save(step, _small(step), {})
    assert (checkpoints.steps(), checkpoints.best()) == ([2, 3], None)
    assert leftovers(tmp_path) == [tmp_path / "deleted" / "1"]  # renamed before it is deleted
    checkpoints.close()
    assert leftovers(tmp_path) == []


def test_a_run_goes_on_from_an_earlier_checkpoint(tmp_path):
    checkpoints = open_checkpoints(tmp_path, keep_last=5)
    for step in (1, 2, 3):
        checkpoints.save(step, _small(step), {})
    with pytest.raises(ValueError, match="has a checkpoint of step 2 already"):
        checkpoints.save(2, _small(20), {})
    checkpoints.drop_after(1)
    checkpoints.save(2, _small(20), {})
    assert checkpoints.steps() == [1, 2]
    assert checkpoints.restore(_small(0))[0]["train_state"]["w"].tolist() == [20, 20, 20]
    checkpoints.close()


def test_names_each_leaf_that_does_not_fit(tmp_path):
    checkpoints = open_checkpoints(tmp_path)
    checkpoints.save(1, {"train_state": {"a": jnp.zeros((2, 3)), "b": jnp.zeros(4), "c": jnp.zeros(1)}}, {})
    with pytest.raises(ValueError) as fault:
        checkpoints.restore({"train_state": {"a": jnp.zeros((2, 5)), "b": jnp.zeros(4, jnp.int32), "d": jnp.zeros(1)}})
    assert str(fault.value).splitlines() == [
        f"checkpoint {tmp_path / '1'} does not fit:",
        "  train_state/a: float32 [2, 3] in the checkpoint, float32 [2, 5] here",
        "  train_state/b: float32 [4] in the checkpoint, int32 [4] here",
        "  train_state/c: only in the checkpoint",
        "  train_state/d: not in the checkpoint",
    ]
    with pytest.raises(ValueError, match="has no source_state, but train_state"):
        checkpoints.restore({"source_state": ()})
    checkpoints.close()


def test_says_which_checkpoints_there_are(tmp_path):
    checkpoints = open_checkpoints(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        checkpoints.restore(_small(0))
    for step in (4, 5):
        checkpoints.save(step, _small(step), {})
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 3 in .*, but of 4, 5"):
        checkpoints.meta(3)
    checkpoints.close()


def test_refuses_what_it_cannot_store(tmp_path):
    checkpoints = open_checkpoints(tmp_path)
    with pytest.raises(ValueError, match="train_state/count is of type int, but a checkpoint holds arrays only"):
        checkpoints.save(1, {"train_state": {"count": 3}}, {})
    with pytest.raises(ValueError, match="2 leaves but only 1 names"):
        checkpoints.save(1, {"train_state": {"a/b": np.zeros(1), "a": {"b": np.zeros(1)}}}, {})
    with pytest.raises(ValueError, match="must be plain JSON"):
        checkpoints.save(1, _small(1), {"x": np.zeros(1)})
    assert checkpoints.latest() is None
    checkpoints.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's other reads, on a busy machine
def test_finds_all_damage(tmp_path):
    state = {"train_state": {"w": np.random.default_rng(0).normal(size=2000), "b": np.arange(3)}}
    checkpoints = open_checkpoints(tmp_path)
    checkpoints.save(1, state, {})
    checkpoints.save(2, state, {})
    checkpoints.wait()
    found = 0
    for path in sorted(file for file in (tmp_path / "2").rglob("*") if file.is_file()):
        whole = path.read_bytes()
        middle = len(whole) // 2
        for broken in (whole[:middle], whole[:middle] + bytes([whole[middle] ^ 16]) + whole[middle + 1 :]):
            path.write_bytes(broken)
            try:
                restored, meta = checkpoints.restore(state)
            except ValueError as error:
                found += 1
                assert _one_line(error)
                assert str(tmp_path / "2") in str(error)
                assert "is damaged" in str(error)
                assert "of the steps 1" in str(error)
            else:  # a file that does not matter
                _assert_same(restored, state)
                assert meta == {}
        path.write_bytes(whole)
    assert found >= 6  # the document, and data and index of the arrays, each twice
    (tmp_path / "2" / "document" / "metadata").unlink()
    with pytest.raises(ValueError, match="is damaged"):
        checkpoints.meta(2)
    assert checkpoints.best() is None
    checkpoints.close()


@pytest.fixture
def small_files() -> Iterator[None]:
    """The system refuses to write files above 100 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def _big() -> dict[str, Any]:
    return {"train_state": np.random.default_rng(0).normal(size=100_000)}


def test_a_save_that_the_system_refuses_is_reported_by_the_next_call(tmp_path, small_files, capfd):
    checkpoints = open_checkpoints(tmp_path)
    checkpoints.save(1, _small(1), {})
    checkpoints.save(2, _big(), {})
    with pytest.raises(OSError, match="checkpoint 2 could not be written to .*: File too large") as fault:
        checkpoints.save(3, _small(3), {})
    assert _one_line(fault.value)
    assert not leftovers(tmp_path)
    checkpoints.save(3, _small(3), {})  # the fault is told once
    assert checkpoints.steps() == [1, 3]
    checkpoints.save(4, _big(), {})
    with pytest.raises(OSError, match="checkpoint 4 could not be written"):
        checkpoints.close()
    assert "Traceback" not in capfd.readouterr().err


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    import orbax.checkpoint as ocp

    async def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    checkpoints = open_checkpoints(tmp_path)
    checkpoints.save(1, _small(1), {})
    checkpoints.wait()
    with monkeypatch.context() as patch:
        patch.setattr(ocp.JsonCheckpointHandler, "_save_fn", full)
        checkpoints.save(2, _small(2), {})
        with pytest.raises(OSError, match="checkpoint 2 could not be written to .*: No space left on device") as fault:
            checkpoints.wait()
    assert fault.value.errno == 28
    assert _one_line(fault.value)
    assert checkpoints.latest() == 1
    checkpoints.close()


def test_a_directory_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"cannot write checkpoints to {tmp_path / 'file' / 'x'}: Not a directory") as fault:
        open_checkpoints(tmp_path / "file" / "x")
    assert _one_line(fault.value)

    def forbidden(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", forbidden)
    with pytest.raises(OSError, match=f"cannot write checkpoints to {tmp_path}: Permission denied"):
        open_checkpoints(tmp_path)
    with pytest.raises(FileNotFoundError, match="no directory"):
        open_checkpoints(tmp_path / "absent", read_only=True)


def test_leftovers_are_removed_by_the_next_run_but_not_by_a_reader(tmp_path):
    checkpoints = open_checkpoints(tmp_path)
    checkpoints.save(1, _small(1), {})
    checkpoints.close()
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp")
    shutil.copytree(tmp_path / "1", tmp_path / "deleted" / "0")
    reader = open_checkpoints(tmp_path, read_only=True)
    assert (reader.steps(), len(leftovers(tmp_path))) == ([1], 2)
    reader.close()
    checkpoints = open_checkpoints(tmp_path)
    assert (checkpoints.steps(), leftovers(tmp_path)) == ([1], [])
    checkpoints.close()


def test_a_document_is_read_without_starting_jax(tmp_path):
    checkpoints = open_checkpoints(tmp_path, keep_last=3)
    for step in (2, 4):
        checkpoints.save(step, {"train_state": np.zeros(2)}, {"update": step})
    checkpoints.close()
    assert saved_steps(tmp_path) == [2, 4] and saved_steps(tmp_path / "absent") == []
    assert read_meta(tmp_path) == {"update": 4} and read_meta(tmp_path, 2) == {"update": 2}
    with pytest.raises(FileNotFoundError, match="there is no checkpoint of step 3 in .*, but of 2, 4"):
        read_meta(tmp_path, 3)
    code = f"from jaxrl.training.checkpoint_folder import read_meta; from jax._src import xla_bridge; read_meta({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", f"{code}; assert not xla_bridge.backends_are_initialized()"], check=True)


# Forks a writer for each directory that it reads: the imports, most of a writer's life, are paid once.
WRITERS = """
import itertools, os, sys
import numpy as np
import orbax.checkpoint
from jaxrl.training.checkpoint import open_checkpoints

def write(directory):
    checkpoints = open_checkpoints(directory, keep_last=2)
    first = checkpoints.latest() or 0
    if first:
        state, _ = checkpoints.restore({"train_state": np.zeros(200_000), "source_state": np.zeros(1, int)})
        assert (state["train_state"] == first).all() and state["source_state"] == 3 * first
    with open(directory + ".log", "a", buffering=1) as log:
        for step in itertools.count(first + 1):
            log.write(f"begin {step}\\n")
            state = {"train_state": np.full(200_000, float(step)), "source_state": np.array([3 * step])}
            checkpoints.save(step, state, {"step": step}, -step)
            checkpoints.wait()
            log.write(f"end {step}\\n")

for directory in sys.stdin:
    pid = os.fork()
    if pid == 0:
        try:
            write(directory.strip())
        finally:
            os._exit(1)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


def _kill_in_a_save(directory: Path, writers: subprocess.Popen[str], after: float) -> bool:
    """Starts a writer in `directory`, kills it `after` seconds into a save; whether the save had begun and not ended."""
    log = Path(f"{directory}.log")
    log.touch()
    before = len(log.read_text())
    assert writers.stdin is not None and writers.stdout is not None
    print(directory, file=writers.stdin, flush=True)
    pid = int(writers.stdout.readline())
    deadline = time.monotonic() + 60
    while "end" not in log.read_text()[before:] or "begin" not in log.read_text().splitlines()[-1]:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    assert os.WTERMSIG(int(writers.stdout.readline())) == signal.SIGKILL  # it did not die of a fault of its own
    return log.read_text().splitlines()[-1].startswith("begin")


def test_a_kill_at_any_moment_leaves_a_whole_latest_checkpoint(tmp_path):
    directory = tmp_path / "checkpoints"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen([sys.executable, "-c", WRITERS], stdin=-1, stdout=-1, text=True, env=environment) as writers:
        inside, unfinished, reached = 0, 0, 0
        for kill in range(6):
            inside += _kill_in_a_save(directory, writers, after=0.008 * kill)
            unfinished += any("tmp" in path.name for path in leftovers(directory))
            steps = [int(line.split()[1]) for line in Path(f"{directory}.log").read_text().splitlines() if line.startswith("end")]
            reader = open_checkpoints(directory, read_only=True)
            latest = reader.latest()
            assert latest in (steps[-1], steps[-1] + 1)  # the save under way may have been complete already
            assert latest > reached
            for step in reader.steps():
                restored, meta = reader.restore({"train_state": np.zeros(200_000), "source_state": np.zeros(1, int)}, step)
                assert meta == {"step": step}
                assert (restored["train_state"] == step).all()
                assert restored["source_state"] == 3 * step
            reader.close()
            reached = latest
    assert inside >= 4
    assert unfinished >= 2  # half a checkpoint lay there and was not taken for one
