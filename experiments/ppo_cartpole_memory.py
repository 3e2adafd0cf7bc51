"""A cart swings up its pole without seeing velocities: its policy has to remember.

Paper: Tassa et al. 2018, https://arxiv.org/abs/1801.00690 (cartpole swingup), velocities hidden.
Command: jaxrl train --config experiments/ppo_cartpole_memory.py --workdir runs/memory
Device-hours: 0.2 of two CPU cores under heavy other work (695 s of training); idle, 40 updates ran at 28 thousand steps per second.
Expected score: 861 [860, 861], 50 episodes, seed 0; a feed-forward policy 533 [508, 557], see docs/results.md. With velocities: 852.
Last reproduced: 2026-11-21, jax 0.10.2, mujoco 3.17.0, one seed.
"""

from pathlib import Path

from ml_collections import ConfigDict

from jaxrl.config import load


def get_config() -> ConfigDict:
    config = load(Path(__file__).with_name("ppo_cartpole_swingup.py"))
    config.hidden = ("state/velocity",)
    config.networks = ConfigDict(
        {
            "name": "jaxrl.networks.recurrent_actor_critic",
            "memory": "gru",
            "memory_size": 64,
            "actor_hidden": (64,),
            "critic_hidden": (64,),
        }
    )
    config.training.total_updates = 500
    return config
