"""A Unitree Go2 learns to get up from any pose, on flat ground.

Command: jaxrl train --config experiments/ppo_go2_recovery.py --workdir runs/go2_recovery
Device-hours: 0.25 core-hours of training.
Expected score: 99 % of the episodes end on the feet, nominal and randomised (an untrained robot that holds its pose: 12 %).
Last reproduced: 2026-11-26, jax 0.10.2, mujoco 3.17.0, seed 0; see docs/results.md.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict(
        {
            "name": "jaxrl_envs.tasks.go2_recovery",
            "randomization": {
                "friction": (0.4, 1.2),
                "payload": {"base": (0.0, 2.0)},  # kg
                "link_mass": (0.9, 1.1),
                "motor_gain": (0.85, 1.15),
                "motor_strength": (0.85, 1.15),
                "joint_offset": (-0.03, 0.03),  # rad
                "action_delay": (0.0, 0.02),  # s
                "observation_noise": (1.0, 1.0),
            },
        }
    )
    config.networks = ConfigDict(
        {
            "name": "jaxrl.networks.actor_critic",
            "actor_hidden": (128, 128),
            "critic_hidden": (128, 128),
            "activation": "elu",
            "initial_std": 0.7,
        }
    )
    config.source = ConfigDict({"name": "jaxrl.rollout.rollout", "num_worlds": 256, "unroll_length": 24})
    config.algorithm = ConfigDict(
        {
            "name": "jaxrl.algorithms.ppo",
            "learning_rate": 1e-3,
            "target_kl": 0.015,
            "num_epochs": 5,
            "num_minibatches": 4,
            "gamma": 0.97,
            "gae_lambda": 0.95,
            "entropy_weight": 0.005,
        }
    )
    config.training = ConfigDict({"total_updates": 700, "updates_per_call": 10})
    config.evaluation = ConfigDict({"num_episodes": 200})
    return config
