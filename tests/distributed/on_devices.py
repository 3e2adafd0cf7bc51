"""Runs of `layered` on eight devices, on two meshes one after the other; prints what came of them as JSON.

Usage: on_devices.py <folder for checkpoints>
"""

import json
import sys

import jax
import numpy as np

from jaxrl import optimizers
from jaxrl.algorithms import supervised
from jaxrl.distributed.mesh import Config, Rule, learning_mesh
from jaxrl.distributed.sharding import sharded
from jaxrl.ops.paths import flatten_names
from jaxrl.replay.memory import Config as Memory
from jaxrl.replay.memory import memory
from jaxrl.replay.recording import Recording
from jaxrl.training import fit
from jaxrl.training.callbacks import Callback
from jaxrl.training.checkpoint import open_checkpoints
from tests.layered import NORMALISER, SPEC, TOKENS, layered

RULES = (
    Rule("layers/(query|gate|up)/kernel$", ("fsdp", "tensor")),
    Rule("layers/(output|down)/kernel$", ("tensor", "fsdp")),
)
MESHES = {
    "one": (1, Config()),
    "fsdp": (8, Config(fsdp=4, smallest=64)),
    "tensor": (8, Config(fsdp=2, tensor=2, rules=RULES, smallest=64)),
}


def recording() -> Recording:
    draws = np.random.default_rng(0)
    seen, action = draws.normal(size=(40, TOKENS)).astype(np.float32), draws.normal(size=(40, 2)).astype(np.float32)
    return Recording({"state/x": seen}, action, np.zeros(40, np.float32), np.array([13, 25, 40]), SPEC._replace(horizon=1))


def learn(name: str, folder: str | None = None, total: int = 4, resume: bool = False) -> tuple[fit.Run, dict[int, float]]:
    devices, config = MESHES[name]
    mesh = learning_mesh(config, devices)
    given = supervised.Config(optimizers.Config(name="adamw", learning_rate=1e-2, max_gradient_norm=1.0), ema_decay=0.9, accumulate=2)
    algorithm = supervised.supervised(given, {"own": layered()}, {"own": 1.0}, NORMALISER)
    source = memory(Memory(batch_size=16, horizon=TOKENS), recording(), mesh)
    losses: dict[int, float] = {}
    callback = Callback(lambda report: losses.update({report.update: report.metrics["loss"]}), lambda: None)
    checkpoints = open_checkpoints(folder) if folder else None
    extras = fit.Extras(callback=callback, checkpoints=checkpoints, sharded=None if mesh is None else sharded(config, mesh))
    training = fit.Config(total_updates=total, updates_per_call=2)
    result = fit.fit(training, algorithm, source, extras, mesh, resume)
    if checkpoints is not None:
        checkpoints.close()
    return result.run, losses


def apart(run: fit.Run, whole: fit.Run) -> float:
    """The largest difference of their numbers."""
    pairs = zip(jax.tree.leaves(run.train_state), jax.tree.leaves(whole.train_state), strict=True)
    return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs if x.size)


def main(folder: str) -> None:
    whole, expected = learn("one", None, 6)
    first, losses = learn("tensor", folder, 4)
    last, more = learn("fsdp", folder, 6, resume=True)
    parts = {path: x.addressable_shards[0].data.size / max(x.size, 1) for path, x in flatten_names(first.train_state).items()}
    print(json.dumps({"expected": expected, "losses": losses | more, "apart": apart(last, whole), "parts": parts}))


if __name__ == "__main__":
    main(sys.argv[1])
