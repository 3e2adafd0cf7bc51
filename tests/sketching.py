"""What the sketches share: a small environment, a few demonstrations, and the loop that they have to fit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import optimizers
from jaxrl.algorithms import supervised
from jaxrl.ops import running_statistics
from jaxrl.ops.specs import check_spec
from jaxrl.replay.memory import Config as Memory
from jaxrl.replay.memory import memory
from jaxrl.replay.recording import Recording
from jaxrl.training.fit import Run, initial, many_updates
from jaxrl.types import Algorithm, ArraySpec, Metrics, Network, Objective, Params, PolicySpec, Source, StatefulNetwork
from tests.probes import PROBES, probe_env

KEY = jax.random.key(0)
ENV = probe_env(PROBES["truncation"].numbers)
SPEC = PolicySpec({"state/which": ENV.spec.observation["state/which"]}, ENV.spec.action, horizon=4)
CHUNK = (SPEC.horizon, 1)
NORMALISER = running_statistics.init(SPEC.observation | {"action": SPEC.action})
ADAM = optimizers.Config(learning_rate=1e-2)


def demonstrations() -> Source:
    """Five steps of the probe's first state and five of its second, acted upon with -1 and 1 (and a little noise)."""
    which = np.repeat(np.eye(2, dtype=np.float32), 5, 0)
    action = (which @ np.array([[-1.0], [1.0]]) + 0.01 * np.arange(10.0)[:, None]).astype(np.float32)
    spec = SPEC._replace(horizon=1)
    return memory(Memory(8, SPEC.horizon), Recording({"state/which": which}, action, np.zeros(10, np.float32), np.array([5, 10]), spec))


def train(algorithm: Algorithm, source: Source, updates: int = 3, pretrained: Params | None = None) -> tuple[Run, Run, Metrics]:
    """Before and after some updates in the body that `fit` compiles, which wants every shape and type kept."""
    check_spec(algorithm.batch_spec, source.spec, "the sketch", "its source")
    before = jax.jit(initial(algorithm, source, pretrained))(KEY)
    after, metrics = jax.jit(many_updates(algorithm, source, updates))(before, KEY)
    assert all(jnp.isfinite(value).all() for name, value in metrics.items() if not name.startswith("episode/"))
    assert after.train_state.step == updates
    return before, after, metrics


def imitate(objective: Objective, config: supervised.Config | None = None) -> Algorithm:
    return supervised.supervised(config or supervised.Config(ADAM), {"sketch": objective}, {"sketch": 1.0}, NORMALISER)


def batch_spec(spec: PolicySpec = SPEC) -> dict[str, ArraySpec]:
    return {"observation/state/which": ArraySpec(("batch", 2)), "action": ArraySpec(("batch", spec.horizon, 1))}


def masked(batch: dict[str, Any]) -> jax.Array:
    return batch["mask"]


def stateful(network: Network) -> StatefulNetwork:
    """The same, as objectives take it."""
    return StatefulNetwork(
        lambda key: (network.init(key), {}), lambda params, statistics, x, key=None, train=False: (network.apply(params, x), statistics)
    )


def linear(shape: tuple[int, ...]) -> Network:
    """From the two states to any shape."""
    return Network(
        lambda key: 0.1 * jax.random.normal(key, (2, *shape)), lambda params, x, key=None, train=False: jnp.tensordot(x, params, 1)
    )
