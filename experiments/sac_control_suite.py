"""SAC learns a task of the DeepMind Control Suite, the one named behind the file: sac_control_suite.py:walker_walk.

Paper: Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905; Tassa et al. 2018, https://arxiv.org/abs/1801.00690 (tasks).
Command: jaxrl train --config experiments/sac_control_suite.py:walker_walk --workdir runs/sac_walker_walk
Device-hours: 0.5 core-hours a run, 0.7 beside other work.
Expected score: 857 on cartpole_swingup (three seeds), 4 below the published mean. Other tasks: not yet reproduced.

100,000 frames are 50,000 decisions, for each action is repeated twice; the first 5,000 are drawn at random, and each of the others is
followed by two updates. The learning rates fall to a twentieth: at a rate that stays the policy is put right at every turn, and what it
leaves in the end is some ten points worse.
"""

from ml_collections import ConfigDict

FRAMES = 100_000
ACTION_REPEAT = 2
INITIAL = 5_000  # decisions


def get_config(task: str = "cartpole_swingup") -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.control_suite", "task": task, "action_repeat": ACTION_REPEAT})
    config.source = ConfigDict({"name": "jaxrl.rollout.rollout", "num_worlds": 1, "unroll_length": 1, "stagger": False})
    config.replay = ConfigDict({"name": "jaxrl.replay.replay", "capacity": FRAMES, "num_updates": 2, "initial_steps": INITIAL})
    config.networks = ConfigDict({"name": "jaxrl.networks.actor_q"})
    decisions = FRAMES // ACTION_REPEAT - INITIAL
    optimizer = {"learning_rate": 5e-4, "schedule": "warmup_linear", "decay_steps": 2 * decisions, "end_fraction": 0.05}
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.sac", "actor_optimizer": optimizer, "critic_optimizer": optimizer})
    config.training = ConfigDict({"total_updates": decisions, "updates_per_call": 500, "checkpoint_seconds": 300.0})
    config.evaluation = ConfigDict({"num_episodes": 50})
    return config
