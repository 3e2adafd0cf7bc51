"""Whether an algorithm can learn a hundred transitions by heart: where it cannot, neither will it learn a data set."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Algorithm, Array, Key, TrainState

AT_ONCE = 50  # updates between two looks


def overfit(
    algorithm: Algorithm, batch: dict[str, Any], updates: int, enough: float, better: float, seed: int = 0
) -> tuple[dict[str, Any], list[float]]:
    """Up to `updates` on this one batch, from the start of training on; stops when its actions are known. Plain JSON, and the losses.

    `batch` holds `observation`, `action` [B, horizon, A] and maybe `mask`. Known they are when the median error of what the learnt policy
    puts out is below `enough` of the range in the batch, and its mean below `better` times that of who always does the median. The
    parameters that act are those of training, not their average.

    Raises:
        FloatingPointError: the loss is not finite.
        ValueError: all actions are the same.
    """
    learn, act = jax.random.split(jax.random.key(seed))
    state = jax.jit(algorithm.init)(learn)

    @jax.jit
    def several(state: TrainState, first: Array) -> tuple[TrainState, Array]:
        def one(state: TrainState, number: Array) -> tuple[TrainState, Array]:
            state, metrics, _ = algorithm.update(state, batch, jax.random.fold_in(learn, number))
            return state, metrics["loss"]

        return jax.lax.scan(one, state, first + jnp.arange(AT_ONCE))

    @jax.jit
    def predicted(state: TrainState, key: Key) -> Array:
        size = batch["action"].shape[0]
        keys = jax.random.split(key, size)
        policy = algorithm.explore
        return policy.act(algorithm.behaviour(state), batch["observation"], policy.init(size), keys, None)[0]

    losses: list[float] = []
    while True:
        found = _error(np.asarray(predicted(state, act)), batch)
        known = found["median_relative"] < enough and found["mean_relative"] < better * found["constant"]
        if known or len(losses) >= updates:
            break
        state, more = several(state, jnp.int32(len(losses)))
        losses += np.asarray(more, np.float64).tolist()
        if not np.isfinite(losses[-1]):
            raise FloatingPointError(
                f"overfit: the loss is {losses[-1]} after {len(losses)} updates on the same {len(batch['action'])} rows"
            )
    first, last = (losses[0], losses[-1]) if losses else (None, None)
    return found | {"known": known, "updates": len(losses), "first_loss": first, "last_loss": last}, losses


def _error(predicted: np.ndarray, batch: dict[str, Any]) -> dict[str, Any]:
    """Relative to the range of each dimension in the batch, of the steps that are predicted and no padding."""
    steps = predicted.shape[1]  # less than there are where some are for the network alone, as of vqbet
    action = np.asarray(batch["action"], np.float64)[:, :steps]
    counts = np.asarray(batch["mask"])[:, :steps] > 0 if "mask" in batch else np.ones(action.shape, bool)
    kept = np.where(counts, action, np.nan)
    width = np.nanmax(kept, (0, 1)) - np.nanmin(kept, (0, 1))
    varies = counts & (width > 1e-6)
    scale = np.where(width > 1e-6, width, 1.0)
    error, always = (np.abs(x - action) / scale for x in (predicted, np.nanmedian(kept, (0, 1))))
    if not varies.any():
        raise ValueError("overfit: every action of these rows is the same; there is nothing to learn from them")
    return {
        "median_relative": float(np.median(error[varies])),
        "mean_relative": float(error[varies].mean()),
        "constant": float(always[varies].mean()),
    }
