"""Push-T from human demonstrations, states only, by the head named behind the file: imitation_pusht.py:bc.

Paper: Chi et al. 2023, https://arxiv.org/abs/2303.04137, section 4.4 (task, data, protocol).
Command: jaxrl data prepare pusht_cchi_v7_replay.zarr --out caches/pusht
         jaxrl train --config experiments/imitation_pusht.py:bc --workdir runs/pusht_bc
Device-hours: see HEADS. Needs `pip install "jaxrl[data,pusht]"` and `pip install --no-deps gym-pusht`.
Expected score: not yet reproduced. The return is the best reward of an episode, the mean of which is what is published.

A policy sees two steps of the pusher and of nine points of the block, predicts 16 steps from the present one on and executes 8.
"""

from typing import Any

from ml_collections import ConfigDict

HISTORY, HORIZON, EXECUTED = 2, 16, 8

UNET = {"name": "jaxrl.networks.unet1d", "channels": (64, 128, 256)}
HEADS: dict[str, dict[str, Any]] = {
    "bc": {
        "name": "jaxrl.objectives.bc",
        "network": {"name": "jaxrl.networks.state_mlp", "hidden": (512, 512, 512), "activation": "relu"},
    },
    "mixture": {
        "name": "jaxrl.objectives.bc",
        "head": "mixture",
        "network": {"name": "jaxrl.networks.state_mlp", "hidden": (512, 512, 512), "activation": "relu"},
    },
    "diffusion": {"name": "jaxrl.objectives.diffusion", "clip_sample": 1.0, "network": UNET},
    "flow": {"name": "jaxrl.objectives.flow", "network": UNET},
}
UPDATES = {"bc": 20_000, "mixture": 20_000, "diffusion": 30_000, "flow": 30_000}


def get_config(head: str = "bc") -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.pusht"})
    columns = {"state/agent": "state", "state/keypoints": "keypoint", "action": "action"}
    pusher = {"name": "select", "key": "observation/state/agent", "columns": (0, 1)}
    config.source = ConfigDict(
        {
            "name": "jaxrl_data.dataset_source",
            "sets": {"pusht": {"path": "caches/pusht", "columns": columns, "transforms": (pusher,)}},
            "history": HISTORY,
            "horizon": HORIZON,
            "scale": "bounds",
            "batch_size": 256,
        }
    )
    config.objectives = ConfigDict({head: {"weight": 1.0, **HEADS[head]}})
    config.policies = ({"name": "receding_horizon", "executed_steps": EXECUTED},)
    optimizer = {"name": "adamw", "learning_rate": 1e-4, "schedule": "warmup_cosine", "warmup_steps": 500, "decay_steps": UPDATES[head]}
    optimizer |= {"options": {"b1": 0.95, "b2": 0.999, "weight_decay": 1e-6}}
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.supervised", "ema_decay": 0.9999, "optimizer": optimizer})
    config.training = ConfigDict({"total_updates": UPDATES[head], "updates_per_call": 200})
    config.evaluation = ConfigDict({"num_episodes": 100})
    return config
