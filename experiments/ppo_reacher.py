"""A cart learns to swing up its pole and to balance it."""

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
