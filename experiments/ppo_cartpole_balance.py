"""A cart learns to keep its pole upright.

Paper: Tassa et al. 2018, https://arxiv.org/abs/1801.00690 (cartpole balance).
Command: jaxrl train --config experiments/ppo_cartpole_balance.py --workdir runs/balance
Device-hours: 0.01 core-hours of two busy CPU cores (19 s of training).
Expected score: 993, 50 episodes, seed 0.
Last reproduced: 2026-11-21, jax 0.10.2, mujoco 3.17.0.
"""

from pathlib import Path

from ml_collections import ConfigDict

from jaxrl.config import load


def get_config() -> ConfigDict:
    config = load(Path(__file__).with_name("ppo_cartpole_swingup.py"))
    config.env.task = "balance"
    config.algorithm.entropy_weight = 0.001
    config.training.total_updates = 60
    return config
