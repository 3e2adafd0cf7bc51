"""A humanoid with 29 joints learns to stand and to walk where the joystick points, on flat ground, under domain randomisation.

Paper: Rudin et al. 2022, https://arxiv.org/abs/2109.11978 (PPO with thousands of worlds); reward terms as there.
Command: jaxrl train --config experiments/ppo_humanoid_joystick.py --workdir runs/humanoid_joystick
Expected score: not yet reproduced. Tried for 0.6 million steps only (256 worlds, initial_std 0.7, target_kl 0.015): episodes grew from 0.96
to 1.28 s, and every one ended in a fall. PPO has needed some 200 million steps for such robots.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict(
        {
            "name": "jaxrl_envs.tasks.humanoid_joystick",
            "randomization": {
                "friction": (0.4, 1.2),
                "payload": {"torso": (0.0, 3.0)},  # kg
                "center_of_mass": {"torso": (-0.03, 0.03)},  # m
                "link_mass": (0.9, 1.1),
                "motor_gain": (0.9, 1.1),
                "motor_strength": (0.9, 1.1),
                "joint_offset": (-0.02, 0.02),  # rad
                "action_delay": (0.0, 0.02),  # s
                "observation_noise": (1.0, 1.0),
                "push_velocity": (0.3, 0.3),  # m/s
            },
        }
    )
    config.networks = ConfigDict(
        {
            "name": "jaxrl.networks.actor_critic",
            "actor_hidden": (256, 128),
            "critic_hidden": (256, 128),
            "activation": "elu",
            "initial_std": 0.4,
        }
    )
    config.source = ConfigDict({"name": "jaxrl.rollout.rollout", "num_worlds": 1024, "unroll_length": 24})
    config.algorithm = ConfigDict(
        {
            "name": "jaxrl.algorithms.ppo",
            "learning_rate": 3e-4,
            "target_kl": 0.02,  # the divergence adds up over 29 joints
            "num_epochs": 5,
            "num_minibatches": 4,
            "gamma": 0.98,
            "gae_lambda": 0.95,
            "entropy_weight": 0.002,
        }
    )
    config.training = ConfigDict({"total_updates": 8000, "updates_per_call": 10})
    config.evaluation = ConfigDict({"num_episodes": 200})
    return config
