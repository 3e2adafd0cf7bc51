"""A run with factors and averages, as a file, and a network that begins with it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.algorithms import supervised
from jaxrl.cli import weights
from jaxrl.networks.vla import pi0
from jaxrl.objectives import flow
from jaxrl.ops import running_statistics
from jaxrl.ops.low_rank import LowRank
from jaxrl.ops.paths import flatten_names
from jaxrl.types import ArraySpec, PolicySpec
from tests.networks.vla.small import ACTION, KEY, OBSERVATION, SEEING

META = {"config": {}, "spec": "{}", "versions": {}, "code_version": None, "update": 2}
LORA = {"text/layers/(query|value)/kernel$": LowRank(1, 2.0, apart=True)}


def learner(weights: str = "", **fields):
    network = pi0.pi0(pi0.Config(SEEING, ACTION, 4, weights=weights), OBSERVATION, (3, 2))
    spec = PolicySpec(OBSERVATION, ArraySpec((2,)), horizon=3)
    objective = flow.flow(flow.Config(), spec, network)
    config = supervised.Config(frozen=("vision/",), ema_decay=0.9, **fields)
    return supervised.supervised(config, {"flow": objective}, {"flow": 1.0}, running_statistics.init({"action": ArraySpec((2,))}))


def test_what_is_deployed_is_what_a_network_begins_with(tmp_path: Path):
    adapted = learner(lora=LORA, frozen_dtype="bfloat16")
    state = jax.jit(adapted.init)(KEY)
    averages = jax.tree.map(lambda x: x + 0.1, state.extra.ema)
    deployed = adapted.deployable(state._replace(extra=supervised.Extra(averages)))
    file = tmp_path / "learnt.safetensors"
    weights.write(file, weights.arrays(deployed), META)
    begun = jax.jit(learner(str(file)).init)(KEY)
    params = flatten_names(begun.params) | flatten_names(begun.frozen)
    assert params.keys() == (flatten_names(deployed.params) | flatten_names(deployed.frozen)).keys()
    for path, x in flatten_names(averages).items():
        if "/kernel/" not in path:
            np.testing.assert_array_equal(params[path], x)
    base, of = flatten_names(state.frozen), flatten_names(averages)
    query = "flow/text/layers/query/kernel"
    summed = np.asarray(base[query], np.float32) + 2.0 * np.einsum("lir,lro->lio", of[f"{query}/a"], of[f"{query}/b"])
    np.testing.assert_allclose(params[query], summed, rtol=1e-6)
    vision = "flow/vision/patches/kernel"
    np.testing.assert_array_equal(params[vision], base[vision].astype(jnp.float32))
