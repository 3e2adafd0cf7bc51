"""A cart balances its pole from 84 x 84 images alone, by DrQ-v2 with an encoder small enough for a CPU.

Paper: Yarats et al. 2021, https://arxiv.org/abs/2107.09645; Tassa et al. 2018, https://arxiv.org/abs/1801.00690 (cartpole balance).
Command: jaxrl train --config experiments/drqv2_cartpole_pixels.py --workdir runs/drqv2
Device-hours: 1.1 core-hours, beside other work.
Expected score: about 954 (one seed).

100,000 frames are 25,000 decisions, for each action is repeated four times; two decisions are followed by one update.
"""

from ml_collections import ConfigDict

FRAMES = 100_000
ACTION_REPEAT = 4
INITIAL = 1_000  # decisions at random
UNROLL = 2  # decisions for each update
UPDATES = (FRAMES // ACTION_REPEAT - INITIAL) // UNROLL


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.control_suite", "task": "cartpole_balance", "action_repeat": ACTION_REPEAT})
    config.wrapper = ConfigDict(
        {"name": "jaxrl_envs.wrappers.pixels", "cameras": ("fixed",), "width": 84, "height": 84, "frames": 3, "keep_state": False}
    )
    config.source = ConfigDict({"name": "jaxrl.rollout.rollout", "num_worlds": 1, "unroll_length": UNROLL, "stagger": False})
    config.replay = ConfigDict(
        {
            "name": "jaxrl.replay.host_replay",
            "capacity": FRAMES // ACTION_REPEAT,
            "image_gib": 1.0,
            "batch_size": 64,
            "n_step": 3,
            "initial_steps": INITIAL,
        }
    )
    config.networks = ConfigDict(
        {
            "name": "jaxrl.networks.pixel_actor_q",
            "layers": ((32, 4, 4), (32, 4, 2), (32, 3, 1)),
            "features": 50,
            "head": {"deterministic": True, "actor_scale": 1.0, "actor": {"width": 256}, "critic": {"width": 256}},
        }
    )
    config.algorithm = ConfigDict(
        {
            "name": "jaxrl.algorithms.drqv2",
            # At a constant rate the policy returns 945 while it learns, for it is corrected at every turn, and 590 once it is left alone.
            "optimizer": {"learning_rate": 3e-4, "schedule": "warmup_linear", "decay_steps": UPDATES, "end_fraction": 0.05},
            "noise_std": (1.0, 0.1),
            "noise_updates": 5_000,
        }
    )
    config.training = ConfigDict({"total_updates": UPDATES, "updates_per_call": 100, "checkpoint_seconds": 300.0})
    config.evaluation = ConfigDict({"num_episodes": 10})
    return config
