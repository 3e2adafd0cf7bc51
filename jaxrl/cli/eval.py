"""`jaxrl eval`: figures of a trained policy, or its episodes as a recording or data set."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jaxrl.cli import run as runs

FORMATS = ("npz", "rlds", "lerobot")


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="jaxrl eval", description="Evaluates the policy of a run from its checkpoint alone.")
    runs.add_choice_of_checkpoint(parser, nargs="?")
    parser.add_argument("--config", metavar="FILE", help="an experiment file whose policy is written, not learnt, in place of a run")
    parser.add_argument("--record", metavar="PATH", help="write episodes to learn from and no figures: a file .npz, or a folder")
    parser.add_argument("--format", choices=FORMATS, help="of what is recorded; a folder needs it")
    parser.add_argument("--instruction", help="the task in words, for each step of an RLDS or LeRobot data set")
    parser.add_argument("--fps", type=int, help="steps per second for LeRobot, where the environment does not tell them")
    parser.add_argument("--codec", help="of LeRobot's videos: libsvtav1 (the default), libx264, or image, which keeps every pixel")
    parser.add_argument("--against", type=Path, metavar="RUN", help="another run: both act in the same episodes, of the first one's config")
    parser.add_argument("--randomisation-report", action="store_true", help="success against each physics parameter, as JSON and a picture")
    parser.add_argument(
        "--int8", action="store_true", help="what kernels of 8 bits cost and save: actions beside those without, and episodes"
    )
    options, unknown = parser.parse_known_args(arguments)
    overrides = runs.overrides_among(parser, unknown)
    if (options.workdir is None) == (options.config is None):
        parser.error("takes the folder of a run, or --config and an experiment file")
    if options.config is not None and (options.record is None or options.randomisation_report):
        parser.error("a policy that is written, not learnt, is recorded and not evaluated: give --record alone")
    if options.config is not None and (options.best or options.step is not None):
        parser.error("a policy that is written, not learnt, has no checkpoints: leave out --best and --step")
    if options.against is not None and (options.config or options.record or options.randomisation_report):
        parser.error("--against compares two runs, and does nothing else: leave out --config, --record and --randomisation-report")
    if options.int8 and (options.config or options.record or options.randomisation_report or options.against is not None):
        parser.error("--int8 evaluates a run, and does nothing else: leave out --config, --record, --randomisation-report and --against")
    to = _format(parser, options)
    from jaxrl.training.compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    if options.against is not None:
        from jaxrl.cli.evaluation import compare_runs

        compare_runs(options.workdir, options.against, options.step, options.best, overrides)
        return 0
    if options.int8:
        from jaxrl.cli.evaluation import evaluate_rounded

        evaluate_rounded(options.workdir, options.step, options.best, overrides)
        return 0
    if options.record is None and not options.randomisation_report:
        from jaxrl.cli.evaluation import evaluate_run

        evaluate_run(options.workdir, options.step, options.best, overrides)
        return 0
    if options.config is not None:
        from jaxrl.cli.record import CODEC, record, scripted

        record(scripted(options.config, overrides), options.record, to, options.instruction, options.fps or 0, options.codec or CODEC)
        return 0
    loaded = runs.load(options.workdir, options.step, options.best, overrides)
    if options.randomisation_report:
        from jaxrl.cli.evaluation import report_randomisation

        report_randomisation(loaded, options.workdir)
    if options.record is not None:
        from jaxrl.cli.record import CODEC, of_run, record

        record(of_run(loaded), options.record, to, options.instruction, options.fps or 0, options.codec or CODEC)
    return 0


def _format(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """What to record to; empty where nothing is recorded."""
    if options.record is None:
        return ""
    if "://" in options.record:
        parser.error(
            f"--record {options.record}: lies in a cloud, and recordings are written to this machine; copy them when they are whole"
        )
    options.record = Path(options.record)
    is_npz = options.record.suffix == ".npz"
    to = options.format or ("npz" if is_npz else "")
    if not to:
        parser.error(f"--record {options.record}: give --format rlds or lerobot for a folder, or a path that ends in .npz")
    if (to == "npz") != is_npz:
        parser.error(f"--record {options.record}: a path that ends in .npz and --format npz belong together, but --format is {to}")
    if to == "npz" and options.instruction is not None:
        parser.error("--instruction: an .npz has no place for it; record with --format rlds or lerobot")
    for name in ("fps", "codec"):
        if to != "lerobot" and getattr(options, name) is not None:
            parser.error(f"--{name} is for --format lerobot, but --format is {to}")
    return str(to)
