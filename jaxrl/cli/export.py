"""`jaxrl export`: what a run deploys, as a folder that is served without training code."""

import argparse
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxrl.cli import run as runs
from jaxrl.cli.run import say


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="jaxrl export", description="Writes the policy of a run as a folder for `jaxrl serve`.")
    runs.add_choice_of_checkpoint(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the folder to write")
    parser.add_argument("--name", help="of the policy; by default the run's folder's")
    parser.add_argument("--profile", default="", help="what its numbers mean, as the robot's driver calls it: joint_position_absolute")
    parser.add_argument("--rate", type=float, default=0.0, metavar="HZ", help="of its steps, where the run does not tell")
    parser.add_argument("--data", metavar="SET", help="the data set of this robot, where it learnt from several")
    parser.add_argument(
        "--platforms", nargs="+", default=(), choices=("cpu", "cuda", "tpu", "rocm"), help="what it may run on; by default as here"
    )
    options = parser.parse_args(arguments)
    with installed():
        from jaxrl.deploy.export import Meaning, export
    from jaxrl import config as configs

    found = runs.opened(options.workdir, options.step, options.best)
    told = {"config": configs.plain(found.meta["config"])} | {name: found.meta[name] for name in ("versions", "code_version", "update")}
    kept = _of_set(found.meta.get("data"), options.data)
    meaning = Meaning(options.name or options.workdir.resolve().name, options.profile, options.rate, kept)
    made, parity = export(options.out, found.algorithm.policy, found.params, meaning, options.platforms, told)
    size = sum(file.stat().st_size for file in options.out.iterdir())
    say(f"{options.out}: {size / 1e6:,.1f} MB for {', '.join(made.manifest['platforms'])}, of update {found.meta['update']}")
    say(f"hash {made.manifest['hash']}; cosine {parity.cosine:.6f}, greatest error {parity.max_error:.2g} of {parity.scale:.3g}")
    if not options.profile:
        say("it has no profile, so only a robot without one is driven by it; --profile names what its numbers mean")
    return 0


def _of_set(kept: Mapping[str, Any] | None, name: str | None) -> Any:
    """What a checkpoint keeps of the data set of this robot; None where it learnt from none."""
    if not kept:
        if name:
            raise ValueError(f"--data {name}: this run keeps nothing of data sets; leave it out")
        return None
    if name is None and len(kept) == 1:
        (name,) = kept
    if name is None or name not in kept:
        raise ValueError(f"--data {name or ''}: the run learnt from {', '.join(kept)}; name the one of this robot")
    return kept[name]


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Where what the bridge needs is not installed, an ImportError says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        root = (error.name or "").partition(".")[0]
        if root not in ("grpc", "google", "jaxrl_client"):
            raise
        raise ImportError(f"{root} is not installed: pip install 'jaxrl[serve]'") from error
