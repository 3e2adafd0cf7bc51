"""SAC with the networks of SimBa, small ones, learns a task of the DeepMind Control Suite from 100,000 frames.

Paper: Lee et al. 2024, https://arxiv.org/abs/2410.09754: residual blocks, normalised observations, one critic, weight decay.
Command: jaxrl train --config experiments/simba_control_suite.py:walker_walk --workdir runs/simba_walker_walk
Device-hours: 0.2 to 0.4 core-hours a run.
Expected score: 871.0 ± 2.2 on cartpole_swingup (3 seeds, 2026-11-28). Other tasks: not yet run with these numbers.

100,000 frames are 50,000 decisions, for each action is repeated twice; the first 5,000 are drawn at random, and each of the others is
followed by two updates. The learning rates fall to a twentieth, as in sac_control_suite.py.
"""

from ml_collections import ConfigDict

FRAMES = 100_000
ACTION_REPEAT = 2
INITIAL = 5_000  # decisions


def get_config(task: str = "cartpole_swingup") -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.control_suite", "task": task, "action_repeat": ACTION_REPEAT})
    config.source = ConfigDict({"name": "jaxrl.rollout.rollout", "num_worlds": 1, "unroll_length": 1, "stagger": False})
    config.replay = ConfigDict(
        {"name": "jaxrl.replay.replay", "capacity": FRAMES, "batch_size": 128, "num_updates": 2, "initial_steps": INITIAL}
    )
    config.networks = ConfigDict(
        {
            "name": "jaxrl.networks.actor_q",
            "actor": {"kind": "simba", "width": 64, "depth": 1},
            "critic": {"kind": "simba", "width": 128, "depth": 1},
            "ensemble": 1,
            "log_std_bounds": (-10.0, 2.0),
        }
    )
    decisions = FRAMES // ACTION_REPEAT - INITIAL
    falling = {"learning_rate": 5e-4, "schedule": "warmup_linear", "decay_steps": 2 * decisions, "end_fraction": 0.05}
    optimizer = {"name": "adamw", **falling, "options": {"weight_decay": 1e-2}}
    config.algorithm = ConfigDict(
        {
            "name": "jaxrl.algorithms.sac",
            "actor_optimizer": optimizer,
            "critic_optimizer": optimizer,
            "initial_temperature": 0.01,
            "normalise_observations": True,
        }
    )
    config.training = ConfigDict({"total_updates": decisions, "updates_per_call": 500, "checkpoint_seconds": 300.0})
    config.evaluation = ConfigDict({"num_episodes": 50})
    return config
