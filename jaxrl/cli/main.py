"""The `jaxrl` command. Each sub-command is a module; nothing heavy is imported before it is known which one is meant."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "train": "train a policy from an experiment file",
    "plan": "tell what a run on data needs of its devices, and how long a step takes",
    "eval": "evaluate the policy of a run, or record its episodes",
    "diagnose": "tell whether data, policy or loop is at fault in a run on data",
    "render": "make a video of the policy of a run",
    "view": "drive the policy of a run in a window, by keyboard",
    "weights": "write what a run deploys as safetensors",
    "export": "write the policy of a run as a folder to be served",
    "serve": "serve an exported policy to robots",
    "data": "look at data sets of robot episodes: info, stats, validate, view",
    "info": "show what a run is and how far it is",
    "list": "list experiments, algorithms, tasks and the other parts a config can name",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one sub-command and returns its exit status; faults of the user's making are one message, without a traceback."""
    parser = argparse.ArgumentParser(prog="jaxrl", description="Robot learning in JAX: train policies and put them on robots.")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = parser.parse_args(words[:1]).command
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # a config may name a module of the folder it is used in
    module = importlib.import_module(f"jaxrl.cli.{chosen}")
    try:
        return module.main(words[1:])
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        if isinstance(error, ImportError) and "pip install" not in str(error):
            raise
        print(f"jaxrl {chosen}: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:  # of JAX, which has the text of what was raised while a program ran, such as about a file that it reads
        kind, _, said = str(error).strip().rpartition("\n")[-1].partition(": ")
        if kind != "ValueError":
            raise
        print(f"jaxrl {chosen}: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"jaxrl {chosen}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
