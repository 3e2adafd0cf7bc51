"""`jaxrl list`: what can be trained, and what a config can name."""

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path

from jaxrl import config as configs
from jaxrl.cli.run import say


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="jaxrl list", description="Lists experiments and the parts that a config can name.")
    parser.add_argument("--experiments", type=Path, default=Path("experiments"), help="folder of experiment files")
    options = parser.parse_args(arguments)
    from jaxrl.cli.assemble import SOURCES

    files = sorted(options.experiments.glob("*.py"))
    say(f"experiments in {options.experiments}:" if files else f"no experiments in {options.experiments}")
    for path in files:
        header = ast.get_docstring(ast.parse(path.read_text())) or "no header"
        say(f"  {str(path):<40} {header.splitlines()[0]}")
    for kind, package in configs.PACKAGES.items():
        names = SOURCES if kind == "source" else [f"{package}.{name}" for name in configs.available(kind)]
        say(f"{kind}: {', '.join(names) or f'none, {package} is not installed'}")
    return 0
