"""A policy that somebody wrote passes a post on either side: demonstrations of two ways, for experiments/imitation_two_ways.py.

Command: jaxrl eval --config experiments/scripted_two_ways.py --record data/two_ways.npz
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.two_ways"})
    config.policy = ConfigDict({"name": "jaxrl_envs.scripted.two_ways"})
    config.instruction = "go to the target without touching the post"
    config.evaluation = ConfigDict({"num_episodes": 200})
    return config
