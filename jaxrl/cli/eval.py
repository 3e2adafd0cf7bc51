"""`jaxrl eval`: figures of a trained policy, or its episodes as a recording."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jaxrl.cli import run as runs


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="jaxrl eval", description="Evaluates the policy of a run from its checkpoint alone.")
    runs.add_choice_of_checkpoint(parser)
    parser.add_argument("--record", type=Path, metavar="FILE", help="write episodes to learn from (.npz) and no figures")
    parser.add_argument("--randomisation-report", action="store_true", help="success against each physics parameter, as JSON and a picture")
    options, unknown = parser.parse_known_args(arguments)
    overrides = runs.overrides_among(parser, unknown)
    from jaxrl.training.compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    from jaxrl.cli.evaluation import evaluate_run, record, report_randomisation

    if options.record is None and not options.randomisation_report:
        evaluate_run(options.workdir, options.step, options.best, overrides)
        return 0
    loaded = runs.load(options.workdir, options.step, options.best, overrides)
    if options.randomisation_report:
        report_randomisation(loaded, options.workdir)
    if options.record is not None:
        record(loaded, options.record)
    return 0
