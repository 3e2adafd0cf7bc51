"""REINFORCE with a learned baseline balances gymnasium's CartPole-v1, whose episodes pay at most 500.

Paper: Williams 1992, https://doi.org/10.1007/BF00992696.
Command: jaxrl train --config experiments/reinforce_cartpole_v1.py --workdir runs/reinforce_cartpole
Device-hours: 0.05 core-hours (192 s of training on one busy core).
Expected score: 500 (seed 0, 100 episodes).
Last reproduced: 2026-11-27, jax 0.10.2, gymnasium 1.4.0.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.adapters.gymnasium", "id": "CartPole-v1"})
    config.source = ConfigDict({"name": "jaxrl.rollout.host_rollout", "num_worlds": 16, "unroll_length": 64})
    config.networks = ConfigDict({"name": "jaxrl.networks.actor_critic", "actor_hidden": (64, 64), "critic_hidden": (64, 64)})
    config.algorithm = ConfigDict(
        {
            "name": "jaxrl.algorithms.reinforce",
            "optimizer": {"learning_rate": 3e-3, "max_gradient_norm": 1.0},
            "gamma": 0.99,
            "reward_scale": 0.1,
        }
    )
    config.training = ConfigDict({"total_updates": 300, "updates_per_call": 10})
    config.evaluation = ConfigDict({"num_episodes": 100})
    return config
