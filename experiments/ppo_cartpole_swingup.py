"""A cart learns to swing up its pole and to balance it.

Paper: Tassa et al. 2018, https://arxiv.org/abs/1801.00690 (cartpole swingup).
Command: jaxrl train --config experiments/ppo_cartpole_swingup.py --workdir runs/swingup
Device-hours: 0.02 core-hours (70 to 92 s of training on one busy core).
Expected score: 852, 857 and 837 (seeds 0 to 2, 50 episodes each).
Last reproduced: 2026-11-21, jax 0.10.2, mujoco 3.17.0.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.cartpole", "task": "swingup", "action_repeat": 2})
    config.networks = ConfigDict(
        {"name": "jaxrl.networks.actor_critic", "actor_hidden": (64, 64), "critic_hidden": (64, 64), "initial_std": 1.0}
    )
    config.algorithm = ConfigDict(
        {
            "name": "jaxrl.algorithms.ppo",
            "learning_rate": 1e-3,
            "target_kl": 0.01,
            "num_epochs": 4,
            "num_minibatches": 8,
            "gamma": 0.99,
            "gae_lambda": 0.95,
            "value_clip": None,
            "entropy_weight": 0.01,
            "reward_scale": 0.1,
        }
    )
    config.source = ConfigDict({"name": "jaxrl.rollout.rollout", "num_worlds": 256, "unroll_length": 32})
    config.training = ConfigDict({"total_updates": 300, "updates_per_call": 10})
    config.evaluation = ConfigDict({"num_episodes": 50})
    return config
