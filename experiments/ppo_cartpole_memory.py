"""A cart swings up its pole without seeing velocities: its policy has to remember.

Paper: Tassa et al. 2018, https://arxiv.org/abs/1801.00690 (cartpole swingup), velocities hidden.
Command: jaxrl train --config experiments/ppo_cartpole_memory.py --workdir runs/memory
Device-hours: not yet measured.
Expected score: not yet reproduced.
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
