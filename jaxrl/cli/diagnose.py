"""`jaxrl diagnose`: is it the data, the policy or the loop? The checks that tell them apart, of a run on data or of its config alone."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxrl import config as configs
from jaxrl.cli import run as runs

CHECKS = ("overfit", "open_loop", "closed_loop", "modes", "copying", "heeding")
_COLOUR = {"pass": "green", "warn": "yellow", "fail": "red", "skipped": "dim"}


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 1 where a check fails, else 0."""
    parser = argparse.ArgumentParser(prog="jaxrl diagnose", description="Tells whether data, policy or loop is at fault, of a run on data.")
    runs.add_choice_of_checkpoint(parser, nargs="?")
    parser.add_argument("--config", metavar="FILE", help="an experiment file in place of a run: what can be told before it is trained")
    parser.add_argument("--checks", default=",".join(CHECKS), help=f"some of {','.join(CHECKS)}")
    parser.add_argument("--updates", type=int, default=2000, help="at most, to learn 100 transitions by heart")
    parser.add_argument("--out", type=Path, help="folder for diagnosis.json and pictures; by default that of the run")
    options, unknown = parser.parse_known_args(arguments)
    overrides = runs.overrides_among(parser, unknown)
    if (options.workdir is None) == (options.config is None):
        parser.error("takes the folder of a run, or --config and an experiment file")
    if options.config is not None and (options.best or options.step is not None):
        parser.error("an experiment file has no checkpoints: leave out --best and --step")
    checks = options.checks.split(",")
    if wrong := [name for name in checks if name not in CHECKS]:
        parser.error(f"--checks: there is no check {wrong[0]!r}; there are {', '.join(CHECKS)}")
    if options.updates < 1:
        parser.error(f"--updates is {options.updates}, but must be at least 1")
    settings, opened = _chosen(options, overrides)
    from jaxrl.cli.checks import diagnose
    from jaxrl.evaluation.diagnosis import failed

    findings = diagnose(settings, opened, checks, options.updates, options.out or options.workdir)
    _show(findings)
    return int(failed(findings))


def _chosen(options: argparse.Namespace, overrides: tuple[str, ...]) -> tuple[Any, Any]:
    """The settings of a run and what it has learnt, None of an experiment file."""
    from jaxrl.training.compilation_cache import enable_compilation_cache

    if options.config is None:
        enable_compilation_cache()
        opened = runs.opened(options.workdir, options.step, options.best, overrides)
        return opened.settings, opened
    config = configs.load(options.config, overrides)
    runs.prepare_backend(config)
    enable_compilation_cache()
    from jaxrl.cli.settings import Settings

    return configs.build(Settings, config, "config"), None


def _show(findings: Sequence[Any]) -> None:
    """As a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    table = Table("check", "result", *(Column(name, overflow="fold") for name in ("figure", "what to do")))
    for one in findings:
        table.add_row(one.check, f"[{_COLOUR[one.result]}]{one.result}[/]", escape(one.figure), escape(one.advice))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
