"""A policy that somebody wrote goes to the disc that it is told to: demonstrations of two goals, with a camera.

Command: jaxrl eval --config experiments/scripted_two_goals.py --record data/two_goals.npz
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.two_goals"})
    config.wrapper = ConfigDict({"name": "jaxrl_envs.wrappers.pixels", "cameras": ("top",), "width": 64, "height": 64})
    config.policy = ConfigDict({"name": "jaxrl_envs.scripted.two_goals"})
    config.evaluation = ConfigDict({"num_episodes": 300})
    return config
