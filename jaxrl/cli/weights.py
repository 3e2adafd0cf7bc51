"""`jaxrl weights`: what a run deploys, as one file of safetensors."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxrl.cli import run as runs
from jaxrl.cli.run import say
from jaxrl.files import written_whole
from jaxrl.types import Params


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="jaxrl weights", description="Writes what a run deploys as safetensors, averaged and merged.")
    runs.add_choice_of_checkpoint(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write, which ends in .safetensors")
    options = parser.parse_args(arguments)
    if options.out.suffix != ".safetensors":
        parser.error(f"--out {options.out}: must end in .safetensors, by which readers know it")
    found = runs.opened(options.workdir, options.step, options.best)
    held = arrays(found.params)
    write(options.out, held, found.meta)
    size = sum(x.nbytes for x in held.values())
    say(f"{options.out}: {len(held)} arrays, {size / 1e6:,.1f} MB, of update {found.meta['update']}")
    return 0


def arrays(deployed: Params) -> dict[str, Any]:
    """Deployable parameters by flat name, below "params/"; of what learnt from data also what it is normalised by, below "statistics/"."""
    import numpy as np

    from jaxrl.algorithms.supervised import Behaviour
    from jaxrl.ops.paths import flatten_names, merge

    whole: dict[str, Any] = {"params": deployed}
    if isinstance(deployed, Behaviour):
        whole = {"params": merge(deployed.frozen, deployed.params), "statistics": deployed.statistics}
    return {name: np.asarray(x) for name, x in flatten_names(whole).items()}


def write(file: Path, arrays: dict[str, Any], meta: dict[str, Any]) -> None:
    """The arrays, and of the document of a checkpoint what tells how to use them, each as JSON."""
    from safetensors.numpy import save_file

    from jaxrl import config as configs
    from jaxrl.networks.transformer import own

    told = {"config": configs.plain(meta["config"])} | {name: meta[name] for name in ("versions", "code_version", "update")}
    metadata = {"format": own.FORMAT, "spec": meta["spec"]} | {name: json.dumps(value) for name, value in told.items()}
    with written_whole(file) as part:
        save_file(arrays, part, metadata)
        part.chmod(0o644)  # it writes for the owner's eyes alone
