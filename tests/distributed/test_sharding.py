"""Train states in parts on several devices: which part lies where, and that nothing is learnt otherwise."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxrl import optimizers
from jaxrl.algorithms import supervised
from jaxrl.distributed.mesh import Config, Rule, learning_mesh, sizes
from jaxrl.distributed.sharding import axes_of, sharded
from jaxrl.ops.low_rank import LowRank
from jaxrl.ops.paths import flatten_names, map_with_path
from jaxrl.ops.placement import by_rows, check_rows
from jaxrl.replay.memory import Config as Memory
from jaxrl.replay.memory import memory
from jaxrl.training import fit
from tests.distributed.on_devices import RULES, recording
from tests.layered import KEY, NORMALISER, TOKENS, layered

SIZES = {"data": 2, "fsdp": 4, "tensor": 2}


def state(**config):
    chosen = supervised.Config(optimizers.Config(name="adamw"), ema_decay=0.9, **config)
    return jax.eval_shape(supervised.supervised(chosen, {"own": layered()}, {"own": 1.0}, NORMALISER).init, KEY)


def laid(config: Config, sizes=SIZES, **more):
    whole, found = state(**more), {}
    map_with_path(lambda path, _, axes: found.update({path: axes}), whole, axes_of(config, sizes, whole))
    return found


def test_by_default_the_longest_axis_that_divides_lies_over_fsdp():
    found = laid(Config(fsdp=4, smallest=64))
    assert found["params/text/layers/query/kernel"] == (None, None, "fsdp")  # [2, 16, 32]
    assert found["params/text/layers/down/kernel"] == (None, "fsdp", None)  # [2, 24, 16]
    assert found["params/text/layers/key/kernel"] == (None, None, "fsdp")  # [2, 16, 16], the last of equals
    assert found["params/output/bias"] == (None,) and found["params/input/kernel"] == (None, None)  # too small
    assert set(laid(Config(fsdp=4))["params/text/layers/query/kernel"]) == {None}  # fewer elements than `smallest`
    assert set(laid(Config(fsdp=5, smallest=64), {**SIZES, "fsdp": 5})["params/text/layers/down/kernel"]) == {None}  # nothing divides


def test_rules_come_first_and_are_of_the_last_axes():
    found = laid(Config(fsdp=4, tensor=2, rules=RULES, smallest=64))
    assert found["params/text/layers/query/kernel"] == (None, "fsdp", "tensor")
    assert found["params/text/layers/down/kernel"] == (None, "tensor", "fsdp")
    assert found["params/text/layers/value/kernel"] == (None, None, "fsdp")


@pytest.mark.parametrize("rules", [(), RULES])
def test_moments_and_averages_lie_as_their_parameters(rules):
    found = laid(Config(fsdp=4, rules=rules, smallest=64))
    own = {path.removeprefix("params/"): axes for path, axes in found.items() if path.startswith("params/")}
    for prefix in ("opt_state/0/0/mu/", "opt_state/0/0/nu/", "extra/ema/"):
        assert {path.removeprefix(prefix): axes for path, axes in found.items() if path.startswith(prefix)} == own
    assert found["step"] == found["opt_state/0/0/count"] == ()


def test_bases_of_factors_lie_as_kernels_do():
    found = laid(Config(fsdp=4, rules=RULES, smallest=64), {**SIZES, "tensor": 1}, lora={"query/kernel": LowRank(2)})
    assert found["frozen/text/layers/query/kernel"] == (None, "fsdp", None)  # tensor has one device
    assert found["params/text/layers/query/kernel/a"] == (None, "fsdp", None)  # [2, 16, 2], by its size


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Rule("quary", ("fsdp",)), "mesh.rules: the pattern 'quary' matches no parameter"),
        (Rule("output/bias", ("fsdp",)), r"'output/bias' lays it over fsdp, 4 devices, which do not divide 2 of output/bias \(2,\)"),
        (Rule("output/bias", ("fsdp", "")), r"'output/bias' names 2 axes, but output/bias has the shape \(2,\)"),
    ],
)
def test_rules_that_do_not_fit(rule, message):
    with pytest.raises(ValueError, match=message):
        laid(Config(fsdp=4, rules=(rule,)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Config(fsdp=0), "fsdp is 0, but must be at least 1"),
        (lambda: Config(tensor=2), "tensor is 2, but no rule says what lies over it"),
        (lambda: Rule("a", ("model",)), "axes of the rule 'a' name 'model', but a mesh has data, fsdp, tensor"),
        (lambda: Rule("a", ("fsdp", "fsdp")), "each may be named once"),
        (lambda: sizes(Config(fsdp=3), 8), r"devices is 8, but must be a multiple of mesh.fsdp \* mesh.tensor, 3 \* 1"),
        (lambda: learning_mesh(Config(fsdp=512), 512), f"devices is 512, but there are {jax.device_count()}"),
        (lambda: check_rows(6, learning_mesh(Config(fsdp=2), 4)), "batch_size is 6, which 4 devices on the mesh axes `data` and `fsdp` do"),
    ],
)
def test_impossible_meshes(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_rows_stay_where_the_batch_is():
    mesh = learning_mesh(Config(fsdp=2), 4)
    x = {"a": jnp.arange(16.0).reshape(8, 2), "odd": jnp.arange(3.0)}
    assert by_rows(x) is x  # without a mesh
    with jax.set_mesh(mesh):
        placed = jax.jit(by_rows)(x)
    assert placed["a"].sharding.spec == PartitionSpec(("data", "fsdp")) and len(placed["a"].addressable_shards[0].data) == 2
    jax.tree.map(np.testing.assert_array_equal, placed, x)


def test_where_each_array_lies_is_told_before_there_are_any():
    mesh = learning_mesh(Config(fsdp=2), 4)
    found = flatten_names(sharded(Config(fsdp=2, smallest=64), mesh)(state()))
    assert found["params/text/layers/query/kernel"].spec == PartitionSpec(None, None, "fsdp")
    assert found["step"].is_fully_replicated


def test_a_source_on_the_host_feeds_parts_too():
    config, mesh = Config(fsdp=2, smallest=64), learning_mesh(Config(fsdp=2), 4)
    algorithm = supervised.supervised(supervised.Config(), {"own": layered()}, {"own": 1.0}, NORMALISER)
    source = memory(Memory(batch_size=8, horizon=TOKENS), recording(), mesh)
    host = source._replace(pure=False, init=jax.jit(source.init), next=jax.jit(source.next))
    training = fit.Config(total_updates=2, updates_per_call=2)
    found = fit.fit(training, algorithm, host, fit.Extras(sharded=sharded(config, mesh)), mesh).run.train_state
    expected = fit.fit(training, algorithm, memory(Memory(batch_size=8, horizon=TOKENS), recording())).run.train_state
    query = found.params["text"]["layers"]["query"]["kernel"]
    assert query.sharding.spec == PartitionSpec(None, None, "fsdp")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), expected.params, found.params)


@pytest.mark.timeout(300)
def test_eight_devices_learn_what_one_does_and_go_on_on_another_mesh(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), "JAX_PLATFORMS": "cpu"}
    # Half of what a test takes is compilation, see conftest.
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    environment["XLA_FLAGS"] = flags
    environment["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
    command = [sys.executable, "-m", "tests.distributed.on_devices", str(tmp_path)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert found.returncode == 0, found.stderr
    assert "full rematerialization" not in found.stderr  # what the compiler says where it gathers activations of all devices
    told = json.loads(found.stdout)
    assert told["losses"].keys() == told["expected"].keys() == {"2", "4", "6"}
    for update, loss in told["losses"].items():
        np.testing.assert_allclose(loss, told["expected"][update], rtol=1e-5)
    assert told["apart"] < 1e-4
    for path in ("params", "opt_state/1/0/mu", "opt_state/1/0/nu", "extra/ema"):
        assert told["parts"][f"{path}/text/layers/query/kernel"] == told["parts"][f"{path}/text/layers/down/kernel"] == 0.25
        assert told["parts"][f"{path}/text/layers/value/kernel"] == 0.5 and told["parts"][f"{path}/output/bias"] == 1
