"""pi0 at debug size, from nothing: goes to the disc that it is told to, in words, and has to see where that is.

Paper: Black et al. 2024, https://arxiv.org/abs/2410.24164.
Command: jaxrl eval --config experiments/scripted_two_goals.py --record data/two_goals.npz
         jaxrl train --config experiments/pi0_two_goals.py --workdir runs/pi0_two_goals
Device-hours: about 0.3 core-hours (1,500 updates took 432 s).
Expected score: not yet measured; after 1,500 updates it does not listen yet.

A tokenizer is not needed: words are their bytes. `jaxrl diagnose runs/pi0_two_goals --checks heeding` tells whether it listens.
"""

from ml_collections import ConfigDict

UPDATES, HORIZON, EXECUTED = 4_000, 8, 4
LAYERS = {"width": 64, "depth": 4, "heads": 8, "kv_heads": 1, "head_dim": 16, "mlp": 128}
COMPUTING = {"dtype": "float32"}


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.two_goals"})
    config.wrapper = ConfigDict({"name": "jaxrl_envs.wrappers.pixels", "cameras": ("top",), "width": 64, "height": 64})
    config.data = ConfigDict({"path": "data/two_goals.npz"})
    config.source = ConfigDict({"name": "jaxrl.replay.memory", "batch_size": 32, "horizon": HORIZON, "validation": 0.1})
    config.objectives = ConfigDict(
        {
            "flow": {
                "name": "jaxrl.objectives.flow",
                "network": {
                    "name": "jaxrl.networks.vla.pi0",
                    "seeing": {
                        "vision": {"image": 64, "patch": 16, "width": 64, "depth": 4, "heads": 4, "mlp": 128},
                        "text": {**LAYERS, "vocabulary": 257, "computing": COMPUTING},
                    },
                    "action": {**LAYERS, "vocabulary": 0, "computing": COMPUTING},
                },
            }
        }
    )
    config.policies = ({"name": "receding_horizon", "executed_steps": EXECUTED},)
    config.algorithm = ConfigDict(
        {
            "name": "jaxrl.algorithms.supervised",
            "ema_decay": 0.999,
            "optimizer": {
                "name": "adamw",
                "learning_rate": 1e-3,
                "schedule": "warmup_cosine",
                "warmup_steps": 200,
                "decay_steps": UPDATES,
                "max_gradient_norm": 1.0,
                "options": {"weight_decay": 1e-3},
            },
        }
    )
    config.training = ConfigDict({"total_updates": UPDATES, "updates_per_call": 50, "evaluate_every": 1_000})
    config.evaluation = ConfigDict({"num_episodes": 100})
    return config
