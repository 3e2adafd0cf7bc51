"""A cart learns to keep its pole upright from what a camera sees.

The actor sees the last two images alone; the critic, which is not needed to act, sees the state (Pinto et al. 2018).

Paper: Tassa et al. 2018, https://arxiv.org/abs/1801.00690 (cartpole balance).
Command: jaxrl train --config experiments/ppo_cartpole_pixels.py --workdir runs/pixels
Device-hours: not yet measured.
Expected score: not yet reproduced.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.cartpole", "task": "balance", "action_repeat": 4})
    config.wrapper = ConfigDict(
        {
            "name": "jaxrl_envs.wrappers.pixels",
            "cameras": ("close",),
            "width": 64,
            "height": 64,
            "frames": 2,
        }
    )
    config.hidden = ("state/position", "state/velocity")
    config.networks = ConfigDict(
        {
            "name": "jaxrl.networks.conv_actor_critic",
            "layers": ((16, 8, 8), (32, 3, 1)),
            "features": 64,
            "image_critic": False,
            "head": {"actor_hidden": (64,), "critic_hidden": (64, 64), "initial_std": 0.6},
        }
    )
    config.algorithm = ConfigDict(
        {
            "name": "jaxrl.algorithms.ppo",
            "learning_rate": 1e-3,
            "target_kl": 0.02,
            "num_epochs": 4,
            "num_minibatches": 8,
            "gamma": 0.98,
            "gae_lambda": 0.95,
            "value_clip": None,
            "entropy_weight": 0.003,
            "reward_scale": 0.1,
        }
    )
    config.source = ConfigDict({"name": "jaxrl.rollout.rollout", "num_worlds": 64, "unroll_length": 32, "pool_size": 64})
    config.training = ConfigDict({"total_updates": 150, "updates_per_call": 10})
    config.evaluation = ConfigDict({"num_episodes": 20, "video_seconds": 4.0})
    return config
