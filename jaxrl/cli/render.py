"""`jaxrl render`: a video of a trained policy."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jaxrl.cli import run as runs


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="jaxrl render", description="Films one episode of the policy of a run.")
    runs.add_choice_of_checkpoint(parser)
    parser.add_argument("--output", type=Path, help="by default video.mp4 in the folder of the run")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--seed", type=int, default=0, help="another seed is another episode")
    parser.add_argument("--size", default="640x480", metavar="WIDTHxHEIGHT")
    options, unknown = parser.parse_known_args(arguments)
    overrides = runs.overrides_among(parser, unknown)
    width, cross, height = options.size.partition("x")
    if not (cross and width.isdigit() and height.isdigit()):
        parser.error(f"--size {options.size}: write it like 640x480")
    from jaxrl.cli.evaluation import film
    from jaxrl.training.compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    loaded = runs.load(options.workdir, options.step, options.best, overrides)
    output = options.output or options.workdir / runs.VIDEO
    return 0 if film(loaded, output, options.seconds, options.seed, int(width), int(height)) else 1
