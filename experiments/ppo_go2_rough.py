"""A Unitree Go2 learns to walk over slopes, stairs and obstacles; automatic domain randomisation makes ground and physics harder as it can.

Papers: Rudin et al. 2022, https://arxiv.org/abs/2109.11978 (tiles of rising difficulty, height scan); OpenAI et al. 2019,
https://arxiv.org/abs/1910.07113 (ADR).
Command: jaxrl train --config experiments/ppo_go2_rough.py --workdir runs/go2_rough
Held-out ground: jaxrl eval runs/go2_rough --config.env.terrain_seed=1000
What it is compared with, a run on level 0 of nominal worlds: --config experiments/ppo_go2_rough.py:nominal
Device-hours: 0.6 core-hours (18 minutes at the 14,500 steps/s of a run alone on two CPU cores).
Expected score on held-out ground, all parameters drawn, 200 episodes: success 66 %, falls 14 %; of the nominal run 40 % and 32 %.
Last reproduced: 2026-11-21, jax 0.10.2, mujoco 3.17.0, one seed; see docs/results.md.
"""

from ml_collections import ConfigDict

CURRICULA = {
    "adr": {"name": "jaxrl.curricula.adr", "buffer": 24, "step": 0.1, "boundary_share": 0.5, "widen_above": 0.5, "narrow_below": 0.2},
    "nominal": {"name": "jaxrl.curricula.nominal"},
}


def get_config(curriculum: str = "adr") -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict(
        {
            "name": "jaxrl_envs.tasks.go2_rough",
            "forward": (-0.5, 0.8),  # m/s
            "swing_height": 0.1,  # m
            "rewards": {"clearance": -5.0, "pose": -0.05, "vertical_velocity": -0.5, "tilt": -1.0},
            "randomization": {
                "terrain": (0.0, 1.0),
                "friction": (0.4, 1.2),
                "payload": {"base": (0.0, 2.0)},  # kg
                "center_of_mass": {"base": (-0.03, 0.03)},  # m
                "link_mass": (0.9, 1.1),
                "motor_gain": (0.85, 1.15),
                "motor_strength": (0.85, 1.15),
                "joint_offset": (-0.03, 0.03),  # rad
                "action_delay": (0.0, 0.02),  # s
                "observation_noise": (1.0, 1.0),
                "push_velocity": (0.0, 0.5),  # m/s
            },
        }
    )
    config.curriculum = ConfigDict(CURRICULA[curriculum])
    config.networks = ConfigDict(
        {
            "name": "jaxrl.networks.actor_critic",
            "actor_hidden": (256, 128),
            "critic_hidden": (256, 128),
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
            "entropy_weight": 0.002,
        }
    )
    config.training = ConfigDict({"total_updates": 2500, "updates_per_call": 10})
    config.evaluation = ConfigDict({"num_episodes": 200})
    return config
