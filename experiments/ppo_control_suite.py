"""PPO learns a task of the DeepMind Control Suite, the one named behind the file: ppo_control_suite.py:cheetah_run.

Paper: Tassa et al. 2018, https://arxiv.org/abs/1801.00690 (tasks); Schulman et al. 2017, https://arxiv.org/abs/1707.06347 (PPO).
Command: jaxrl train --config experiments/ppo_control_suite.py:cheetah_run --workdir runs/cheetah
    (all six tasks of TASKS, three seeds each: make baselines)
Device-hours: 0.01 to 0.15 core-hours a run; half an hour of two cores for the 18 of TASKS.
Expected score: that of `PPO` in launchers/published.py, or more. Every task that is not in TASKS: not yet reproduced.
Last reproduced: 2026-11-22, jax 0.10.2, mujoco 3.17.0, dm_control 1.0.50, three seeds of the six tasks; see docs/results.md.
"""

from ml_collections import ConfigDict

# What differs from the settings below, by task.
TASKS: dict[str, dict[str, float | int]] = {
    "ball_in_cup_catch": {"action_repeat": 4, "gamma": 0.98, "total_updates": 150},
    "cartpole_swingup": {"action_repeat": 2, "total_updates": 200},
    "cheetah_run": {"action_repeat": 4, "total_updates": 400},
    "finger_spin": {"action_repeat": 2, "gamma": 0.98, "total_updates": 200},
    "reacher_easy": {"action_repeat": 4, "gamma": 0.98, "total_updates": 300},
    "walker_walk": {"action_repeat": 2, "total_updates": 150},
}


def get_config(task: str = "cartpole_swingup") -> ConfigDict:
    own = {"action_repeat": 2, "gamma": 0.99, "total_updates": 1000} | TASKS.get(task, {})
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.control_suite", "task": task, "action_repeat": own["action_repeat"]})
    config.source = ConfigDict({"name": "jaxrl.rollout.rollout", "num_worlds": 256, "unroll_length": 32})
    config.training = ConfigDict({"total_updates": own["total_updates"], "updates_per_call": 10})
    config.evaluation = ConfigDict({"num_episodes": 50})
    config.networks = ConfigDict(
        {"name": "jaxrl.networks.actor_critic", "actor_hidden": (64, 64), "critic_hidden": (64, 64), "initial_std": 1.0}
    )
    config.algorithm = ConfigDict(
        {
            "name": "jaxrl.algorithms.ppo",
            "learning_rate": 1e-3,
            "target_kl": 0.01,
            "num_epochs": 4,
            "num_minibatches": 8,
            "gamma": own["gamma"],
            "gae_lambda": 0.95,
            "value_clip": None,
            "entropy_weight": 0.01,
            "reward_scale": 0.1,
        }
    )
    return config
