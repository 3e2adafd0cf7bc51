"""PPO learns a task of the DeepMind Control Suite, as named after the file: ppo_control_suite.py:cheetah_run.

Paper: Tassa et al. 2018, https://arxiv.org/abs/1801.00690; Schulman et al. 2017, https://arxiv.org/abs/1707.06347.
Command: jaxrl train --config experiments/ppo_control_suite.py:cheetah_run --workdir runs/cheetah
All baselines: python experiments/launchers/baselines.py --workdir runs/baselines
"""

from ml_collections import ConfigDict

# What differs from the settings below, by task.
TASKS: dict[str, dict[str, object]] = {
    "cartpole_swingup": {"action_repeat": 2, "total_updates": 300},
    "ball_in_cup_catch": {"action_repeat": 4, "gamma": 0.98, "total_updates": 300},
    "reacher_easy": {"action_repeat": 4, "gamma": 0.98, "total_updates": 400},
    "finger_spin": {"action_repeat": 2, "gamma": 0.98, "total_updates": 400},
    "cheetah_run": {"action_repeat": 4, "total_updates": 500},
    "walker_walk": {"action_repeat": 2, "total_updates": 500},
}


def get_config(task: str = "cartpole_swingup") -> ConfigDict:
    own = dict(TASKS.get(task, {}))
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.control_suite", "task": task, "action_repeat": own.pop("action_repeat", 2)})
    config.source = ConfigDict({"name": "jaxrl.rollout.rollout", "num_worlds": 256, "unroll_length": 32})
    config.training = ConfigDict({"total_updates": own.pop("total_updates", 1000), "updates_per_call": 10})
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
            "gamma": 0.99,
            "gae_lambda": 0.95,
            "value_clip": None,
            "entropy_weight": 0.01,
            "reward_scale": 0.1,
        }
    )
    config.algorithm.update(own)
    return config
