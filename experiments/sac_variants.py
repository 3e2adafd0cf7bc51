"""Methods that are SAC with other networks, targets or numbers of updates, each by the word behind the file: sac_variants.py:redq.

Paper: named at each of VARIANTS, whose numbers are those that its authors publish.
Command: jaxrl train --config experiments/sac_variants.py:redq --workdir runs/redq --config.env.task=walker_walk
Device-hours: unknown; most are meant for a GPU.
Expected score: not yet reproduced, none of them. SimBa with small networks is: simba_control_suite.py.

One robot: a task of the control suite, as in sac_control_suite.py. Many worlds (fast_sac, flash_sac): the task of ppo_go2_flat.py. With
demonstrations (rlpd): they are in runs/expert/episodes.npz, written by jaxrl eval runs/expert --record runs/expert/episodes.npz.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxrl.config import load

HERE = Path(__file__).parent
RETURNS = {"kind": "categorical", "bins": 101, "low": -5.0, "high": 5.0}
ADAM_3E4 = {"learning_rate": 3e-4}
FALLING = {"schedule": "warmup_linear", "warmup_steps": 0, "end_fraction": 0.5}  # to half of it, at `decay_steps`

# What differs from sac_control_suite.py, by section.
ONE_ROBOT: dict[str, dict[str, Any]] = {
    "redq": {  # Chen et al. 2021, https://arxiv.org/abs/2101.05982, appendix B
        "networks": {"ensemble": 10},
        "algorithm": {"subset": 2, "policy_delay": 20, "policy_value": "mean"},
        "replay": {"num_updates": 20},
    },
    "droq": {  # Hiraoka et al. 2022, https://arxiv.org/abs/2110.02034, appendix
        "networks": {"critic": {"layer_norm": True, "dropout": 0.01}},
        "algorithm": {"policy_delay": 20, "policy_value": "mean"},
        "replay": {"num_updates": 20},
    },
    "rlpd": {  # Ball et al. 2023, https://arxiv.org/abs/2302.02948, table 1
        "networks": {"ensemble": 10, "critic": {"layer_norm": True}},
        "algorithm": {"subset": 2, "policy_delay": 20, "policy_value": "mean", "target_entropy": -0.5},
        "replay": {"num_updates": 20, "batch_size": 128},
        "demonstrations": {"name": "jaxrl.replay.demonstrations", "batch_size": 128},
        "data": {"path": "runs/expert/episodes.npz"},
    },
    "simba_v2": {  # Lee et al. 2025, https://arxiv.org/abs/2502.15280, appendix; one critic where episodes never terminate
        "networks": {
            "actor": {"kind": "simba_v2", "width": 128, "depth": 1},
            "critic": {"kind": "simba_v2", "width": 512, "depth": 2},
            "ensemble": 1,
            "returns": RETURNS,
            "log_std_bounds": (-10.0, 2.0),
        },
        "algorithm": {
            "actor_optimizer": {"learning_rate": 1e-4, **FALLING, "decay_steps": 90_000},
            "critic_optimizer": {"learning_rate": 1e-4, **FALLING, "decay_steps": 90_000},
            "initial_temperature": 0.01,
            "target_entropy": -0.5,
            "normalise_observations": True,
        },
        "replay": {"num_updates": 2, "maximum_return": 5.0},
    },
    "crossq": {  # Bhatt et al. 2024, https://arxiv.org/abs/1902.05605, table 2: one update for each decision, here three for three
        "networks": {"actor": {"kind": "crossq"}, "critic": {"kind": "crossq", "width": 2048}},
        "algorithm": {
            "actor_optimizer": {"learning_rate": 1e-3, "options": {"b1": 0.5}},
            "critic_optimizer": {"learning_rate": 1e-3, "options": {"b1": 0.5}},
            "temperature_learning_rate": 1e-3,
            "tau": 1.0,
            "joint": True,
            "policy_delay": 3,
        },
        "source": {"unroll_length": 3},
        "replay": {"num_updates": 3, "initial_steps": 5001},
        "training": {"total_updates": 15_000},
    },
    "xqc": {  # Palenicek et al. 2025, https://arxiv.org/abs/2509.25174
        "networks": {
            "actor": {"kind": "xqc", "width": 256, "depth": 3},
            "critic": {"kind": "xqc", "width": 512, "depth": 4},
            "returns": RETURNS,
        },
        "algorithm": {"initial_temperature": 0.01, "target_entropy": -0.5, "joint": True},
        "replay": {"num_updates": 2, "maximum_return": 5.0},
    },
}

# What differs from sac_go2_flat.py.
MANY_WORLDS: dict[str, dict[str, Any]] = {
    "fast_sac": {  # Seo et al. 2025, https://arxiv.org/abs/2512.01996
        "networks": {
            "actor": {"width": 512, "depth": 3, "narrowing": 2, "activation": "swish", "layer_norm": True},
            "critic": {"width": 768, "depth": 3, "narrowing": 2, "activation": "swish", "layer_norm": True},
            "returns": {"kind": "categorical", "bins": 101, "low": -20.0, "high": 20.0},
            "log_std_bounds": (-5.0, 0.0),
            "actor_scale": 0.0,
            "critic_scale": 0.0,
        },
        "algorithm": {
            "actor_optimizer": {"name": "adamw", **ADAM_3E4, "options": {"b2": 0.95, "weight_decay": 1e-3}},
            "critic_optimizer": {"name": "adamw", **ADAM_3E4, "options": {"b2": 0.95, "weight_decay": 1e-3}},
            "target_entropy": 0.0,
            "tau": 0.125,
            "policy_delay": 4,
            "target_value": "mean",
        },
        "source": {"num_worlds": 4096},
        "replay": {"capacity": 4096 * 1024, "batch_size": 8192, "num_updates": 8, "initial_steps": 4096 * 10},
        "training": {"total_updates": 50_000},
    },
    "flash_sac": {  # Kim et al. 2026; https://github.com/Holiday-Robot/FlashSAC
        "networks": {
            "actor": {"kind": "flash", "width": 128, "depth": 2},
            "critic": {"kind": "flash", "width": 256, "depth": 2},
            "returns": RETURNS,
            "log_std_bounds": (-10.0, 2.0),
        },
        "algorithm": {
            "actor_optimizer": {**ADAM_3E4, **FALLING, "schedule": "warmup_cosine", "decay_steps": 48_800},
            "critic_optimizer": {**ADAM_3E4, **FALLING, "schedule": "warmup_cosine", "decay_steps": 97_600},
            "initial_temperature": 0.01,
            "target_entropy": -0.478,  # that of a standard deviation of 0.15
            "gamma": 0.99,
            "tau": 0.01,
            "policy_value": "minimum",
            "joint": True,
            "longest_repeat": 16,
            "action_bound": 1.0,
            "normalise_observations": False,
        },
        "source": {"num_worlds": 1024},
        "replay": {
            "capacity": 10_000_000,
            "batch_size": 2048,
            "num_updates": 2,
            "n_step": 3,
            "initial_steps": 1024 * 98,
            "maximum_return": 5.0,
        },
        "training": {"total_updates": 48_800},  # of 1024 worlds: 50 million steps
    },
}


def with_changes(config: ConfigDict, changes: Mapping[str, Mapping[str, Any]]) -> ConfigDict:
    """`config` with the fields of each section that `changes` names; what is a section within one is replaced."""
    for name, fields in changes.items():
        config[name] = ConfigDict({**config.get(name, {}), **fields})
    return config


def get_config(variant: str) -> ConfigDict:
    if variant in MANY_WORLDS:
        config = with_changes(load(HERE / "sac_go2_flat.py"), MANY_WORLDS[variant])
        config.mirror = variant == "fast_sac"
        return config
    if variant not in ONE_ROBOT:
        raise ValueError(f"no variant {variant!r}; there are {', '.join((*ONE_ROBOT, *MANY_WORLDS))}")
    return with_changes(load(HERE / "sac_control_suite.py"), ONE_ROBOT[variant])
