"""SAC from many worlds and large batches: a Unitree Go2 learns to walk where the joystick points, in a third of PPO's steps.

Paper: Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905; settings as in FastSAC (Seo et al. 2025, https://arxiv.org/abs/2512.01996).
Command: jaxrl train --config experiments/sac_go2_flat.py --workdir runs/sac_go2_flat
Device-hours: 1 core-hour (3718 s of training on one core beside other work).
Expected score, 200 episodes: velocity error 0.124 m/s, yaw error 0.171 rad/s, falls 0.5 %; randomised 0.134, 0.180, 2 %.
Last reproduced: 2026-11-27, jax 0.10.2, mujoco 3.17.0, one seed; see docs/results.md.

With targets of up to 2.5 units of action, and two updates on 2048 steps in place of eight on 512, the robot had learnt to fall after 0.2
million steps, and no more: the first actions went to the ends of their range, where every step costs more than a fall.
"""

from pathlib import Path

from ml_collections import ConfigDict

from jaxrl.config import load

STEPS = 1_840_000  # a third of those of PPO
WORLDS = 256
INITIAL = 10 * WORLDS


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.env = load(Path(__file__).with_name("ppo_go2_flat.py")).env  # the same task
    config.source = ConfigDict({"name": "jaxrl.rollout.rollout", "num_worlds": WORLDS, "unroll_length": 1})
    config.replay = ConfigDict(
        {
            "name": "jaxrl.replay.replay",
            "capacity": 1_000_000,
            "batch_size": 512,
            "num_updates": 8,
            "initial_steps": INITIAL,
        }
    )
    torso = {"width": 128, "depth": 2, "activation": "swish", "layer_norm": True}
    config.networks = ConfigDict(
        {
            "name": "jaxrl.networks.actor_q",
            "actor": torso,
            "critic": torso,
            "returns": {"kind": "categorical", "bins": 101, "low": -2.0, "high": 4.0},
            "log_std_bounds": (-5.0, 0.0),
        }
    )
    optimizer = {"learning_rate": 3e-4}
    config.algorithm = ConfigDict(
        {
            "name": "jaxrl.algorithms.sac",
            "actor_optimizer": optimizer,
            "critic_optimizer": optimizer,
            "initial_temperature": 1e-3,
            "target_entropy": -0.5,
            "action_bound": 1.5,
            "gamma": 0.97,
            "tau": 0.02,
            "policy_delay": 2,
            "policy_value": "mean",
            "normalise_observations": True,
        }
    )
    config.training = ConfigDict({"total_updates": (STEPS - INITIAL) // WORLDS // 10 * 10, "updates_per_call": 10})
    config.evaluation = ConfigDict({"num_episodes": 200})
    return config
