"""A second policy learns to walk by imitating the trained one: behaviour cloning of a Unitree Go2's PPO policy.

Paper: Rusu et al. 2016, https://arxiv.org/abs/1511.06295 (policy distillation), here by regression of the actions.
Command: jaxrl eval runs/go2_flat --record runs/go2_flat/episodes.npz
         jaxrl train --config experiments/bc_go2_flat.py --workdir runs/bc_go2_flat
Device-hours: 0.03 core-hours of two CPU cores.
Expected score: that of its teacher, runs/go2_flat, to within the intervals.
Last reproduced: 2026-11-21, jax 0.10.2, one seed; see docs/results.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from jaxrl.config import load


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.env = load(Path(__file__).with_name("ppo_go2_flat.py")).env  # judged where its teacher was
    config.data = ConfigDict({"path": "runs/go2_flat/episodes.npz"})
    config.source = ConfigDict({"name": "jaxrl.replay.memory", "batch_size": 1024, "horizon": 1})
    config.objectives = ConfigDict(
        {
            "bc": {
                "name": "jaxrl.objectives.bc",
                "weight": 1.0,
                "head": "mse",
                "network": {"name": "jaxrl.networks.state_mlp", "hidden": (128, 128), "activation": "elu"},
            }
        }
    )
    config.algorithm = ConfigDict(
        {
            "name": "jaxrl.algorithms.supervised",
            "ema_decay": 0.999,
            "optimizer": {
                "name": "adamw",
                "learning_rate": 1e-3,
                "schedule": "warmup_cosine",
                "warmup_steps": 200,
                "decay_steps": 10_000,
                "max_gradient_norm": 1.0,
                "options": {"weight_decay": 1e-4},
            },
        }
    )
    config.training = ConfigDict({"total_updates": 10_000, "updates_per_call": 200})
    config.evaluation = ConfigDict({"num_episodes": 200})
    return config
