"""Methods that learn from images alone, each by the word behind the file: pixel_variants.py:drqv2.

Paper: named at each of VARIANTS; the numbers are meant to be its authors', and have not been checked against its authors' code.
Command: jaxrl train --config experiments/pixel_variants.py:drqv2 --workdir runs/drqv2 --config.env.task=walker_walk
Device-hours: unknown; meant for a GPU.
Expected score: not yet reproduced, none of them. One with an encoder small enough for a CPU is drqv2_cartpole_pixels.py.

The last three images of 84 x 84 of a camera of a task of the control suite; 1.1 million frames, each action repeated twice. Other tasks
have other cameras: --config.env.task=cartpole_swingup --config.wrapper.cameras="('fixed',)".
"""

from typing import Any

from ml_collections import ConfigDict

ACTION_REPEAT = 2
FRAMES = 1_100_000
INITIAL = 2_000  # decisions at random
DETERMINISTIC = {"deterministic": True, "actor_scale": 1.0, "actor": {"width": 1024}, "critic": {"width": 1024}}
DRQV2 = {"name": "jaxrl.algorithms.drqv2", "noise_std": (1.0, 0.1), "noise_updates": 50_000}

VARIANTS: dict[str, dict[str, Any]] = {
    "drqv2": {  # Yarats et al. 2021, https://arxiv.org/abs/2107.09645; the noise of its easy tasks, an update for two decisions
        "networks": {"head": DETERMINISTIC},
        "algorithm": DRQV2,
        "replay": {"batch_size": 256, "n_step": 3},
    },
    "drm": {  # Xu et al. 2024, https://arxiv.org/abs/2310.19668; perturbed every 200,000 frames
        "networks": {"head": DETERMINISTIC},
        "algorithm": DRQV2 | {"dormancy": {"perturb_every": 50_000}},
        "replay": {"batch_size": 256, "n_step": 3},
    },
    "drq": {  # Yarats et al. 2021, https://arxiv.org/abs/2004.13649; one shift of each image where the paper averages two
        "networks": {"head": {"actor": {"width": 1024}, "critic": {"width": 1024}, "log_std_bounds": (-10.0, 2.0)}},
        "algorithm": {
            "name": "jaxrl.algorithms.sac",
            "pad": 4,
            "actor_optimizer": {"learning_rate": 1e-3},
            "critic_optimizer": {"learning_rate": 1e-3},
            "temperature_learning_rate": 1e-3,
            "initial_temperature": 0.1,
            "tau": 0.01,
            "policy_delay": 2,
        },
        "replay": {"batch_size": 512, "num_updates": 2},
    },
}


def get_config(variant: str = "drqv2") -> ConfigDict:
    if variant not in VARIANTS:
        raise ValueError(f"there is no variant {variant!r}; there are {', '.join(VARIANTS)}")
    own = VARIANTS[variant]
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.control_suite", "task": "walker_walk", "action_repeat": ACTION_REPEAT})
    config.wrapper = ConfigDict({"name": "jaxrl_envs.wrappers.pixels", "cameras": ("side",), "width": 84, "height": 84, "frames": 3})
    config.wrapper.keep_state = False
    config.source = ConfigDict({"name": "jaxrl.rollout.rollout", "num_worlds": 1, "unroll_length": 2, "stagger": False})
    config.replay = ConfigDict({"name": "jaxrl.replay.host_replay", "capacity": 1_000_000, "image_gib": 6.0, "initial_steps": INITIAL})
    config.replay.update(own["replay"])
    config.networks = ConfigDict({"name": "jaxrl.networks.pixel_actor_q", **own["networks"]})
    config.algorithm = ConfigDict(own["algorithm"])
    updates = (FRAMES // ACTION_REPEAT - INITIAL) // config.source.unroll_length
    config.training = ConfigDict({"total_updates": updates // 500 * 500, "updates_per_call": 500, "checkpoint_seconds": 1800.0})
    config.evaluation = ConfigDict({"num_episodes": 10})
    return config
