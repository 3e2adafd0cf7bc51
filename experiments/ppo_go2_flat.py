"""A Unitree Go2 learns to walk where the joystick points, on flat ground, under domain randomisation.

Paper: Rudin et al. 2022, https://arxiv.org/abs/2109.11978 (PPO with thousands of worlds); reward terms as there.
Command: make train (jaxrl train --config experiments/ppo_go2_flat.py --workdir runs/go2_flat)
Device-hours: 0.17 core-hours (299 s of training on two CPU cores).
Expected score, 200 episodes: velocity error 0.071 m/s, yaw error 0.05 rad/s, falls 1.5 %; randomised 0.091, 0.10, 1 %.
Last reproduced: 2026-11-22, jax 0.10.2, mujoco 3.17.0, one seed; see docs/results.md.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict(
        {
            "name": "jaxrl_envs.tasks.go2_flat",
            "randomization": {
                "friction": (0.4, 1.2),
                "payload": {"base": (0.0, 2.0)},  # kg
                "center_of_mass": {"base": (-0.03, 0.03)},  # m
                "link_mass": (0.9, 1.1),
                "motor_gain": (0.85, 1.15),
                "motor_strength": (0.85, 1.15),
                "joint_offset": (-0.03, 0.03),  # rad
                "action_delay": (0.0, 0.02),  # s
                "observation_noise": (1.0, 1.0),
                "push_velocity": (0.5, 0.5),  # m/s
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
    # Few worlds and many updates: an update may only change the policy so much, whatever the number of steps it has seen.
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
            "entropy_weight": 0.002,
        }
    )
    config.training = ConfigDict({"total_updates": 900, "updates_per_call": 10})
    config.evaluation = ConfigDict({"num_episodes": 200})
    return config
