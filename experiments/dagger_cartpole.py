"""A student swings a pole up as an expert would have from wherever it comes to itself, by the rule named behind the file: :dagger.

Paper: Ross et al. 2011, https://arxiv.org/abs/1011.0686; the other rules in jaxrl/policies/overseen.py.
Command: jaxrl train --config experiments/dagger_cartpole.py:dagger --workdir runs/dagger_cartpole
Device-hours: minutes of two CPU cores.
Expected score: not yet reproduced.
"""

from ml_collections import ConfigDict


def get_config(rule: str = "dagger") -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.cartpole", "task": "swingup", "action_repeat": 2})
    config.expert = ConfigDict({"name": "jaxrl_envs.scripted.cartpole_swingup", "noise": 0.0})
    config.oversight = ConfigDict({"rule": rule})
    config.source = ConfigDict({"name": "jaxrl.rollout.rollout", "num_worlds": 16, "unroll_length": 1})
    config.replay = ConfigDict({"name": "jaxrl.replay.dagger", "capacity": 100_000, "initial_steps": 2_000})
    network = {"name": "jaxrl.networks.state_mlp", "hidden": (256, 256), "activation": "relu"}
    config.objectives = ConfigDict({"bc": {"name": "jaxrl.objectives.bc", "network": network}})
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.supervised", "ema_decay": 0.999, "optimizer": {"learning_rate": 1e-3}})
    config.training = ConfigDict({"total_updates": 4_000, "updates_per_call": 400})
    config.evaluation = ConfigDict({"num_episodes": 50})
    return config
