"""`jaxrl view`: a trained policy in a window, in real time, steered by keyboard."""

import argparse
from collections.abc import Sequence
from importlib import import_module

from jaxrl.cli import run as runs
from jaxrl.types import HostEnv


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="jaxrl view", description="Shows the policy of a run in a window and lets you steer it.")
    runs.add_choice_of_checkpoint(parser)
    parser.add_argument("--seed", type=int, default=0, help="another seed is another episode")
    parser.add_argument("--randomised", action="store_true", help="draw new physics for each episode, in place of the nominal ones")
    options, unknown = parser.parse_known_args(arguments)
    overrides = runs.overrides_among(parser, unknown)
    loaded = runs.load(options.workdir, options.step, options.best, overrides)
    if isinstance(loaded.env, HostEnv):
        raise ValueError(f"{loaded.env.spec.name} is stepped on the host, and has nothing to draw here")
    viewer = import_module("jaxrl_envs.viewer")
    try:
        viewer.view(loaded.env, loaded.algorithm.policy, loaded.params, seed=options.seed, randomised=options.randomised, say=runs.say)
    except RuntimeError as error:  # no window opens here
        runs.say(f"jaxrl view: {error}")
        return 1
    return 0
