"""`jaxrl info`: what a run is and how far it is."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from jaxrl import config as configs
from jaxrl.cli import run as runs
from jaxrl.cli.run import say


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="jaxrl info", description="Shows config, checkpoints, versions, spec and results of a run.")
    parser.add_argument("workdir", type=Path, help="folder of the run")
    options = parser.parse_args(arguments)
    from jaxrl.ops import specs
    from jaxrl.training.checkpoint import open_checkpoints
    from jaxrl.training.checkpoint_folder import read_meta

    directory = runs.checkpoints_of(options.workdir)
    meta, checkpoints = read_meta(directory), open_checkpoints(directory, read_only=True)
    total = configs.plain(meta["config"]).get("training", {}).get("total_updates")
    say(
        f"{options.workdir}: update {meta['update']}" + (f" of {total}" if total else "") + f", {meta['env_steps']:,} environment steps, "
        f"{meta['seconds']:.0f} s of training"
    )
    say(f"checkpoints: {', '.join(map(str, checkpoints.steps()))}; best: {checkpoints.best()}")
    say("versions: " + ", ".join(f"{name} {version}" for name, version in meta["versions"].items() if version))
    say(f"code: {meta['code_version'] or 'not a checkout'}")
    spec = specs.from_json(meta["spec"])
    say(f"policy: {spec.action.shape[0]} actions ({spec.action.unit or 'no unit'}) at {spec.rate:g} Hz from")
    for name, part in spec.observation.items():
        say(f"  {name:<28} {part.dtype} {list(part.shape)} {part.unit}")
    say("config: " + json.dumps(configs.plain(meta["config"]), indent=1))
    results = options.workdir / runs.EVALUATION
    if results.exists():
        from jaxrl.cli.evaluation import say_results

        say("evaluation:")
        say_results(json.loads(results.read_text()))
    return 0
