"""Imitation of demonstrations that pass a post on either side, by the head named behind the file: imitation_two_ways.py:mixture.

Paper: Florence et al. 2021, https://arxiv.org/abs/2109.00137, and Chi et al. 2023, https://arxiv.org/abs/2303.04137 (the point of it).
Command: jaxrl eval --config experiments/scripted_two_ways.py --record data/two_ways.npz
         jaxrl train --config experiments/imitation_two_ways.py:mixture --workdir runs/two_ways_mixture
Device-hours: minutes of two CPU cores.
Expected score: see docs/results.md. `mse` averages both ways and runs into the post; the others take one of them.
"""

from typing import Any

from ml_collections import ConfigDict

MLP = {"name": "jaxrl.networks.state_mlp", "hidden": (256, 256), "activation": "relu"}
BLOCKS = {"name": "jaxrl.networks.mlp_denoiser", "width": 128, "depth": 3}
CODES = {
    "chunk": 8,
    "codebooks": {"codes": 16, "size": 64},
    "network": {"name": "jaxrl.networks.gpt", "width": 64, "layers": 2, "heads": 4},
}
HEADS: dict[str, dict[str, Any]] = {
    "mse": {"name": "jaxrl.objectives.bc", "network": MLP},
    "gaussian": {"name": "jaxrl.objectives.bc", "head": "gaussian", "network": MLP},
    "mixture": {"name": "jaxrl.objectives.bc", "head": "mixture", "components": 5, "network": MLP},
    "binned": {"name": "jaxrl.objectives.bc", "head": "binned", "bins": 64, "network": MLP},
    "diffusion": {"name": "jaxrl.objectives.diffusion", "clip_sample": 1.0, "sampler": "ddim", "inference_steps": 10, "network": BLOCKS},
    "flow": {"name": "jaxrl.objectives.flow", "network": BLOCKS},
    "consistency": {"name": "jaxrl.objectives.consistency", "teacher": "flow", "points": 20, "network": BLOCKS},
    "ibc": {
        "name": "jaxrl.objectives.ibc",
        "negatives": 128,
        "samples": 512,
        "derivative_free": {"iterations": 8, "noise": 0.33, "shrink": 0.6},
        "network": {"name": "jaxrl.networks.energy_mlp", "hidden": (128, 128), "dropout": 0.0},
    },
    "vqbet_codes": {"name": "jaxrl.objectives.vqbet", "stage": "codes", **CODES},
    "vqbet": {"name": "jaxrl.objectives.vqbet", **CODES},
    "tokens": {
        "name": "jaxrl.objectives.tokens",
        "bins": 64,
        "temperature": 1.0,
        "network": {"name": "jaxrl.networks.token_decoder", "width": 64, "layers": 2, "heads": 4},
    },
}
FIRST = {"vqbet": "vqbet_codes", "consistency": "flow"}  # heads that begin with what another has learnt
# Steps that are predicted and executed, and rows of a batch, where they are others.
SIZES: dict[str, tuple[int, int, int]] = {"ibc": (2, 1, 128), "vqbet_codes": (10, 8, 256), "vqbet": (10, 8, 256), "tokens": (8, 8, 128)}


def get_config(head: str = "mixture") -> ConfigDict:
    config = ConfigDict()
    horizon, executed, batch_size = SIZES.get(head, (16, 8, 256))
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.two_ways"})
    config.data = ConfigDict({"path": "data/two_ways.npz"})
    config.source = ConfigDict({"name": "jaxrl.replay.memory", "batch_size": batch_size, "horizon": horizon, "scale": "bounds"})
    config.objectives = ConfigDict({head: {"weight": 1.0, **HEADS[head]}})
    config.policies = ({"name": "receding_horizon", "executed_steps": executed},)
    schedule = {"schedule": "warmup_cosine", "warmup_steps": 200, "decay_steps": 5_000}
    optimizer = {"name": "adamw", "learning_rate": 1e-3, **schedule, "options": {"weight_decay": 1e-6}}
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.supervised", "ema_decay": 0.999, "optimizer": optimizer})
    config.training = ConfigDict({"total_updates": 5_000, "updates_per_call": 500})
    config.evaluation = ConfigDict({"num_episodes": 100})
    if head == "vqbet_codes":
        config.algorithm.ema_decay = 0.0  # codebooks follow the encoder as it is, not its average
    if head in FIRST:
        config.pretrained = f"runs/two_ways_{FIRST[head]}"
    return config
