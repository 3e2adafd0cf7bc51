"""A policy that somebody wrote swings a pole up and balances it: data to learn from, for those who have none.

Method: Astrom & Furuta 2000, https://doi.org/10.1016/S0005-1098(99)00140-5, see jaxrl_envs/scripted/cartpole_swingup.py.
Command: jaxrl eval --config experiments/scripted_cartpole.py --record data/cartpole --format lerobot
With a camera: --config.wrapper.name=jaxrl_envs.wrappers.pixels "--config.wrapper.cameras=('side',)"
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.cartpole", "task": "swingup", "action_repeat": 2})
    config.policy = ConfigDict({"name": "jaxrl_envs.scripted.cartpole_swingup"})
    config.instruction = "swing the pole up and balance it"
    config.evaluation = ConfigDict({"num_episodes": 20})
    return config
