"""TD3 and its relatives, each by the word behind the file: td3_variants.py:td3.

Paper: named at each of the variants, whose numbers are those that its authors publish.
Command: jaxrl train --config experiments/td3_variants.py:td3 --workdir runs/td3 --config.env.task=walker_walk
Device-hours: unknown; fast_td3 is meant for a GPU.
Expected score: not yet reproduced, none of them.

One robot: a task of the control suite, as in sac_control_suite.py. Many worlds (fast_td3): the task of ppo_go2_flat.py.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxrl.config import load

HERE = Path(__file__).parent
INITIAL = 5_000  # decisions at random

ONE_ROBOT: dict[str, dict[str, Any]] = {
    "td3": {  # Fujimoto et al. 2018, https://arxiv.org/abs/1802.09477, section 6.1; two updates for two decisions
        "networks": {"deterministic": True},
        "algorithm": {},
    },
    "ddpg": {  # Lillicrap et al. 2016, https://arxiv.org/abs/1509.02971; its noise is white here
        "networks": {"deterministic": True, "ensemble": 1},
        "algorithm": {"policy_delay": 1, "target_noise": 0.0},
    },
}
FAST_TD3: dict[str, dict[str, Any]] = {  # Seo et al. 2025, https://arxiv.org/abs/2505.22642, its settings for playground's Go1
    "networks": {
        "deterministic": True,
        "actor": {"width": 512, "depth": 3, "narrowing": 2},
        "critic": {"width": 1024, "depth": 3, "narrowing": 2},
        "returns": {"kind": "categorical", "bins": 101, "low": -10.0, "high": 10.0},
    },
    "algorithm": {
        "actor_optimizer": {"name": "adamw", "learning_rate": 3e-4, "options": {"weight_decay": 0.1}},
        "critic_optimizer": {"name": "adamw", "learning_rate": 3e-4, "options": {"weight_decay": 0.1}},
        "gamma": 0.97,
        "tau": 0.1,
        "target_actor": False,
        "exploration_std": (0.2, 0.8),
        "normalise_observations": True,
        "action_bound": 2.5,
    },
    "source": {"num_worlds": 1024},
    "replay": {"capacity": 1024 * 10_240, "batch_size": 32_768, "num_updates": 8, "initial_steps": 1024 * 10},
    "training": {"total_updates": 50_000},
}


def get_config(variant: str = "td3") -> ConfigDict:
    if variant == "fast_td3":
        config, own = load(HERE / "sac_go2_flat.py"), FAST_TD3
    elif variant in ONE_ROBOT:
        config, own = load(HERE / "sac_control_suite.py"), ONE_ROBOT[variant]
        config.source.unroll_length = config.replay.num_updates = 2
        config.training.total_updates //= 2
    else:
        raise ValueError(f"no variant {variant!r}; there are {', '.join((*ONE_ROBOT, 'fast_td3'))}")
    config.networks, config.algorithm = ConfigDict({"name": config.networks.name}), ConfigDict({"name": "jaxrl.algorithms.td3"})
    for name, fields in own.items():
        config[name] = ConfigDict({**config[name], **fields})
    return config
