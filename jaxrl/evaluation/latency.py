"""How long a policy takes to answer a single robot, and how evenly."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Params, Policy

WARM_UP = 10  # answers that do not count: the first compiles


def latency(policy: Policy, params: Params, answers: int = 200) -> dict[str, Any]:
    """Seconds from an observation to the chunk, of one row at a time, on the device that JAX runs on here; plain JSON.

    `p50` and `p99` are percentiles, `jitter` is between these. `available` is the time from one question to the next, None where the
    policy has no rate. What moves observations to the device and actions to a robot is not in it.
    """
    observation = {name: jnp.zeros((1, *part.shape), part.dtype) for name, part in policy.spec.observation.items()}
    act = jax.jit(policy.act)
    carry, key, times = policy.init(1), jax.random.split(jax.random.key(0), 1), []
    for _ in range(WARM_UP + answers):
        began = time.perf_counter()
        chunk, carry, _ = act(params, observation, carry, key, None)
        jax.block_until_ready(chunk)
        times.append(time.perf_counter() - began)
    p50, p99 = np.percentile(times[WARM_UP:], (50, 99))
    available = policy.spec.executed_steps / policy.spec.rate if policy.spec.rate else None
    found = {"p50": float(p50), "p99": float(p99), "jitter": float(p99 - p50), "available": available}
    return found | {"n": answers, "device": jax.devices()[0].device_kind}
