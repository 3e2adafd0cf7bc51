"""SAC learns a task of the DeepMind Control Suite, the one named behind the file: sac_control_suite.py:walker_walk.

Paper: Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905; Tassa et al. 2018, https://arxiv.org/abs/1801.00690 (tasks).
Command: jaxrl train --config experiments/sac_control_suite.py:walker_walk --workdir runs/sac_walker_walk
Device-hours: not yet measured; 0.4 core-hours a run with half as many updates, beside other work.
Expected score: not yet reproduced. With half as many updates 816 on cartpole_swingup (three seeds).

100,000 frames are 50,000 decisions, for each action is repeated twice; the first 5,000 are drawn at random, and each of the others is
followed by two updates.
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
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.sac"})
    decisions = FRAMES // ACTION_REPEAT - INITIAL
    config.training = ConfigDict({"total_updates": decisions, "updates_per_call": 500, "checkpoint_seconds": 300.0})
    config.evaluation = ConfigDict({"num_episodes": 50})
    return config
