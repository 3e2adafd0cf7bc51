"""A two-link arm learns to bring its finger to a target and to keep it there.

Paper: Tassa et al. 2018, https://arxiv.org/abs/1801.00690 (reacher easy: reward 1 per step inside the target).
Command: jaxrl train --config experiments/ppo_reacher.py --workdir runs/reacher
Device-hours: 0.05 core-hours (99 to 174 s of training on one busy core).
Expected score: 954, 955 and 942 (seeds 0 to 2, 50 episodes each).
Last reproduced: 2026-11-21, jax 0.10.2, mujoco 3.17.0.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.reacher", "action_repeat": 4})
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
            "gamma": 0.98,
            "gae_lambda": 0.95,
            "value_clip": None,
            "entropy_weight": 0.01,
            "reward_scale": 0.1,
        }
    )
    config.source = ConfigDict({"name": "jaxrl.rollout.rollout", "num_worlds": 256, "unroll_length": 32})
    config.training = ConfigDict({"total_updates": 400, "updates_per_call": 10})
    config.evaluation = ConfigDict({"num_episodes": 50})
    return config
