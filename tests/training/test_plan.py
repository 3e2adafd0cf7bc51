"""Plans of a small transformer: work and communication by hand, memory beside what XLA plans."""

import functools

import jax
import numpy as np
import pytest

from jaxrl import optimizers
from jaxrl.algorithms.supervised import Config, supervised
from jaxrl.distributed.mesh import Config as Mesh
from jaxrl.distributed.mesh import Rule
from jaxrl.networks.transformer.experts import Computing
from jaxrl.ops.low_rank import LowRank
from jaxrl.training import devices
from jaxrl.training.plan import EFFICIENCY, Layout, memory, multiplied, plan, work
from tests.layered import KEY, NORMALISER, SIZE, TOKENS, layered, make_batch

ONE = {"data": 1, "fsdp": 1, "tensor": 1}
SHARED = {"data": 2, "fsdp": 2, "tensor": 2}
RULES = (Rule("layers/(query|gate|up)/kernel$", ("fsdp", "tensor")), Rule("layers/(output|down)/kernel$", ("tensor", "fsdp")))
H100 = devices.named("h100")
# Products with weights of one token: queries and outputs, keys and values, a gated MLP.
KERNELS = SIZE.depth * (2 * 16 * 32 + 2 * 16 * 16 + 3 * 16 * 24) + 16 + 32


@functools.cache
def algorithm(remat: str = "none", **more):
    config = Config(optimizers.Config(name="adamw", max_gradient_norm=1.0), ema_decay=0.9, **more)
    return supervised(config, {"own": layered(computing=Computing("float32", remat))}, {"own": 1.0}, NORMALISER)


def batch():
    return jax.eval_shape(lambda: make_batch())


@functools.cache
def told(shared: bool = False, remat: str = "none"):
    layout = Layout(Mesh(fsdp=2, tensor=2, rules=RULES, smallest=64), SHARED) if shared else Layout(Mesh(), ONE)
    return plan(algorithm(remat), algorithm(), batch(), layout, device=H100)


def test_work_by_hand():
    found = work(algorithm(), batch())
    attention = 2 * SIZE.depth * TOKENS * SIZE.heads * SIZE.head_dim * 2  # of one token, queries with keys, and with values
    one_way = TOKENS * (2 * KERNELS + attention)
    assert (found.samples, found.tokens) == (16, 16 * TOKENS)
    assert found.flops == 16 * (3 * one_way - 2 * TOKENS * 16)  # nobody asks how the loss follows from what is seen


def test_parameters_by_part():
    assert told()["trained"] == sum(told()["parameters"].values()) == sum(x.size for x in jax.tree.leaves(_state().params))
    assert told()["parameters"]["output"] == 16 * 2 + 2 and set(told()["parameters"]) == {"input", "output", "text/layers", "text/norm"}


def _state():
    return jax.eval_shape(algorithm().init, KEY)


def test_memory_of_what_is_held():
    held, size = told()["memory"], 4 * told()["trained"]
    assert held["weights"] == size and abs(held["optimizer"] - 2 * size) < 64 and held["gradients"] == size
    assert held["total"] == sum(value for name, value in held.items() if name != "total")
    parts = told(shared=True)["memory"]
    kernels = 4 * SIZE.depth * (2 * 16 * 32 + 3 * 16 * 24)  # which lie over two axes; those of keys and values over one
    assert parts["weights"] == kernels // 4 + 4 * SIZE.depth * 2 * 16 * 16 // 2 + size - kernels - 4 * SIZE.depth * 2 * 16 * 16


@pytest.mark.parametrize(("remat", "more"), [("none", {}), ("dots", {}), ("none", {"accumulate": 4})])
def test_memory_is_that_which_xla_plans(remat, more):
    update = algorithm(remat, **more).update
    found = jax.jit(lambda *given: update(*given), donate_argnums=0).lower(_state(), batch(), KEY).compile().memory_analysis()
    xla = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes + found.temp_size_in_bytes
    planned = memory(algorithm(remat, **more), batch(), Layout(Mesh(), ONE), turned=jax.default_backend() == "cpu")
    np.testing.assert_allclose(sum(planned.values()), xla, rtol=0.1)


def test_what_is_computed_again_is_told_and_no_work():
    full = told(remat="full")
    assert full["flops_per_sample"] == told()["flops_per_sample"] and 0.2 < full["recomputed"] < 1 / 3 and told()["recomputed"] == 0
    assert full["memory"]["activations"] < 0.5 * told()["memory"]["activations"]


def test_communication_by_hand():
    size = lambda *shape: 4 * SIZE.depth * int(np.prod(shape))  # noqa: E731
    over_both, over_fsdp = 2 * size(16, 32) + 3 * size(16, 24), 2 * size(16, 16)
    sent = told(shared=True)["communication"]
    assert sent["fsdp"] == 3 * (over_both // 2 + over_fsdp) // 2  # gathered twice, summed once; half of it is another device's
    others = 4 * told()["trained"] - over_both - over_fsdp
    assert sent["data"] == (over_both // 2 + over_fsdp) // 2 + round(2 * 3 / 4 * others)
    rows = 4 * TOKENS * SIZE.depth * 4  # of four samples, bytes of a number
    # Forwards what sums over outputs of others: after the attention and the MLP; backwards what goes into queries, gates and ups.
    assert sent["tensor"] == rows * (16 + 16 + 16 + 16 + 16)
    assert set(told()["communication"].values()) == {0}


def test_time_is_that_of_its_parts():
    found = told()
    seconds = found["seconds"]
    assert seconds["step"] == pytest.approx(seconds["products"] + seconds["optimizer"]) and seconds["communication"] == 0
    slowest = found["flops_per_sample"] * 16 / (EFFICIENCY * H100.flops / 2)  # in float32
    assert seconds["products"] >= slowest and found["fits"]
    assert found["mfu"] == pytest.approx(found["flops_per_sample"] * 16 / seconds["step"] / H100.flops)
    assert found["samples_per_second"] == pytest.approx(16 / seconds["step"])


def test_bases_are_frozen_and_multiplied():
    adapted = supervised(Config(lora={"query/kernel": LowRank(2)}), {"own": layered()}, {"own": 1.0}, NORMALISER)
    found = plan(adapted, adapted, batch(), Layout(Mesh(), ONE))
    assert found["frozen"] == SIZE.depth * 16 * 32 and "seconds" not in found
    assert "text/layers/query/kernel" in {one.weight for one in multiplied(adapted, batch())}


def test_batches_that_do_not_divide():
    with pytest.raises(ValueError, match="batch_size is 16, which 3 devices in 1 parts do not divide"):
        plan(algorithm(), algorithm(), batch(), Layout(Mesh(), ONE | {"data": 3}))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("TPU v4", "TPU v4"),
        ("TPU v5 lite", "TPU v5e"),
        ("TPU v5", "TPU v5p"),
        ("cpu", None),
    ],
)
def test_devices_by_the_names_that_jax_has_for_them(monkeypatch, kind, name):
    class Kind:
        device_kind = kind

    monkeypatch.setattr(jax, "devices", lambda: [Kind()])
    found = devices.here()
    assert (found and found.name) == name
    if name is not None:
        assert devices.named(name.lower().replace(" ", "_")) == found


def test_unknown_device():
    with pytest.raises(ValueError, match="device is 'h1000', but known are H200, H100"):
        devices.named("h1000")
