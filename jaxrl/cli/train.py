"""`jaxrl train`: an experiment file in, a run folder out."""

import argparse
import dataclasses
import json
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl import config as configs
from jaxrl.cli import run as runs
from jaxrl.cli.run import say


def make_parser() -> argparse.ArgumentParser:
    """The arguments of the command; overrides are left over."""
    parser = argparse.ArgumentParser(prog="jaxrl train", description="Trains, evaluates, and draws the learning curve and a video.")
    parser.add_argument(
        "--config", required=True, type=Path, help="experiment file, or file.py:word; --config.section.field=value overrides a field"
    )
    parser.add_argument("--workdir", required=True, type=Path, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the latest checkpoint in the workdir")
    parser.add_argument("--force", action="store_true", help="resume although config or code differ; start anew although a run is there")
    parser.add_argument("--num-seeds", "--num_seeds", type=int, help="seeds in one program, from config.training.seed on")
    parser.add_argument("--wandb", metavar="PROJECT", help="log to Weights & Biases too")
    parser.add_argument("--skip-evaluation", action="store_true", help="stop after training")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    began = time.perf_counter()
    parser = make_parser()
    options, unknown = parser.parse_known_args(arguments)
    seeds = () if options.num_seeds is None else (f"--config.training.num_seeds={options.num_seeds}",)
    config = configs.load(options.config, (*runs.overrides_among(parser, unknown), *seeds))
    runs.prepare_backend(config)
    return _train(options, config, _command_to_resume(arguments), began)


def _program() -> str:
    """How the user can call this program again."""
    own = Path(sys.argv[0])
    return str(own) if own.name == "jaxrl" and shutil.which("jaxrl") is None else "jaxrl"


def _command_to_resume(arguments: Sequence[str]) -> str:
    words = [word for word in arguments if word not in ("--resume", "--force")]
    return shlex.join([_program(), "train", *words, "--resume"])


def _announce(settings: Any, parts: Any, whole: Any) -> None:
    import jax

    from jaxrl.distributed.mesh import AXES, sizes
    from jaxrl.distributed.sharding import told

    device = jax.devices()[0]
    shapes = jax.eval_shape(parts.algorithm.init, jax.random.key(0))
    parameters = sum(x.size for x in jax.tree.leaves(shapes.params))
    acts = parts.source.steps_per_batch > 0
    worlds = f"{whole['source']['num_worlds']} worlds of {parts.env.spec.name}, " if acts else ""
    updates, each = settings.training.total_updates, parts.source.steps_per_batch * settings.training.num_seeds
    first = parts.source.initial_steps * settings.training.num_seeds
    beforehand = f" after {first:,} at random" if first else ""
    steps = f"{updates:,} updates of {each:,} steps{beforehand}, {first + updates * each:,} in all" if acts else f"{updates:,} updates"
    seeds = f", {settings.training.num_seeds} seeds" if settings.training.num_seeds > 1 else ""
    simulates = acts and parts.source.pure
    compiling = "10 to 20 s with native physics, up to two minutes with mjx (two CPU cores)" if simulates else "some seconds"
    say(f"{settings.algorithm['name']} on {device.platform} ({jax.device_count()} device(s)): {worlds}{parameters:,} parameters{seeds}")
    if settings.mesh is not None:
        say(told(settings.mesh, dict(zip(AXES, sizes(settings.mesh, settings.devices), strict=True)), shapes))
    say(f"{steps}; compiling first: {compiling}")


def _refuse_other(options: argparse.Namespace, meta: Any, data: Any) -> int | None:
    """Refuses to start over a run, or to resume one of another config, code or data; the update it is at, None where there is none."""
    from jaxrl.training.checkpoint_folder import read_meta, saved_steps
    from jaxrl.training.provenance import refuse_difference

    directory = options.workdir / runs.CHECKPOINTS
    there = max(saved_steps(directory), default=None)
    if there is None and options.resume:
        raise ValueError(f"{options.workdir}: nothing to resume, there is no checkpoint yet; leave out --resume")
    if there is not None and not options.resume and not options.force:
        raise ValueError(
            f"{options.workdir}: holds a run at update {there}; go on with --resume, choose another --workdir, or start anew with --force"
        )
    if options.resume and not options.force:
        try:
            refuse_difference(read_meta(directory), meta)
            if data is not None:
                data.check(read_meta(directory).get("data", {}))
        except ValueError as error:
            raise ValueError(f"{error}\nchoose another --workdir, or go on all the same with --resume --force") from None
    return there


def _clear(workdir: Path) -> None:
    """Removes all that a run has written."""
    for name in (runs.CHECKPOINTS, runs.TENSORBOARD, runs.NOT_FINITE):
        shutil.rmtree(workdir / name, ignore_errors=True)
    for name in (*runs.REPORTS, runs.METRICS, runs.CONFIG, runs.DATA, runs.PROVENANCE):
        (workdir / name).unlink(missing_ok=True)


def _evaluation_along_the_way(settings: Any, parts: Any) -> Any:
    from jaxrl.cli.on_data import along_the_way
    from jaxrl.evaluation.evaluate import periodic

    every, chosen = settings.training.evaluate_every, settings.evaluation
    if not every:
        return None
    found = [along_the_way(settings, parts)] if settings.objectives else []
    if parts.env is not None:
        found.append(periodic(parts.env, parts.algorithm.policy, chosen.num_episodes, chosen.seed, settings.training.num_seeds))
    measures = [one for one in found if one is not None]
    if not measures:
        raise ValueError(
            f"config.training.evaluate_every is {every}, but the config has no env to act in, and no episodes held out; add config.env or "
            "config.source.validation, or set it to 0"
        )
    return lambda params: {name: value for measure in measures for name, value in measure(params).items()}


def _score(parts: Any, evaluate: Any) -> str | None:
    """By what the best checkpoint is kept, where the config does not tell: a return, or the error on data that are held out."""
    if parts.source.steps_per_batch > 0 or (evaluate is not None and parts.env is not None):
        return "episode/return"
    from jaxrl.cli.on_data import ERROR

    return None if evaluate is None else f"-{ERROR}"


def _outputs(options: argparse.Namespace, settings: Any, parts: Any, whole: Any, resumed_at: int | None) -> Any:
    """What takes the reports of the run."""
    from jaxrl.training import callbacks

    workdir = options.workdir
    outputs = [
        callbacks.console(runs.shown(parts.env, settings)),
        callbacks.jsonl(workdir / runs.METRICS, resumed_at),
        callbacks.tensorboard(workdir / runs.TENSORBOARD, resumed_at),
    ]
    if options.wandb:
        run_id = json.loads((workdir / runs.PROVENANCE).read_text())["run_id"]
        outputs.append(callbacks.wandb(options.wandb, whole, workdir, f"{workdir.name}-{run_id}"))
    return _with_speed(settings, parts, callbacks.several(*outputs), resumed_at is not None)


def _with_speed(settings: Any, parts: Any, callback: Any, resumed: bool) -> Any:
    """Reports of what learns from data tell samples, tokens and utilisation."""
    from jaxrl.cli.plan import work_of
    from jaxrl.training import devices, speed

    work = work_of(settings, parts)
    if work is None:
        return callback
    known = devices.here()
    peak = settings.peak_tflops * 1e12 or (known.flops if known else 0.0)
    seeds = settings.training.num_seeds
    return speed.with_speed(callback, type(work)(*(seeds * one for one in work)), peak * settings.devices or None, resumed)


def _mesh(settings: Any) -> tuple[Any, Any]:
    """The mesh of a run and, where parameters lie on it in parts, what says how."""
    from jaxrl.cli.assemble import ON_DATA
    from jaxrl.distributed.mesh import data_mesh, learning_mesh
    from jaxrl.distributed.sharding import sharded

    if settings.mesh is None:
        return data_mesh(settings.devices), None
    if settings.source.get("name") not in ON_DATA:
        raise ValueError(f"config.mesh: is for what learns from stored data, {' or '.join(ON_DATA)}; leave it out, devices is enough")
    mesh = learning_mesh(settings.mesh, settings.devices)
    return mesh, None if mesh is None else sharded(settings.mesh, mesh)


class Prepared(NamedTuple):
    """All that a run is made of, before anything is compiled."""

    settings: Any
    parts: Any
    mesh: Any
    extras: Any


def prepare(options: argparse.Namespace, config: Any) -> Prepared:
    """Builds the parts of a run and its folder; says what will happen.

    Raises:
        ValueError: a fault in the config, or a run that is there already and not to be resumed.
        OSError: the folder cannot be written to.
    """
    from jaxrl.cli.assemble import assemble
    from jaxrl.cli.imitation import check_taught
    from jaxrl.cli.settings import Settings, resolved
    from jaxrl.training import fit
    from jaxrl.training.checkpoint import open_checkpoints
    from jaxrl.training.compilation_cache import enable_compilation_cache
    from jaxrl.training.provenance import meta as meta_of

    settings, workdir = configs.build(Settings, config, "config"), options.workdir
    enable_compilation_cache()
    mesh, sharded = _mesh(settings)
    if not options.resume:
        check_taught(settings)
    # A resumed run has its memory and parameters: whoever filled or taught it is not needed again.
    parts, whole = (
        assemble(dataclasses.replace(settings, filler=None, pretrained=None) if options.resume else settings, mesh),
        resolved(settings),
    )
    evaluate = _evaluation_along_the_way(settings, parts)
    meta = meta_of(whole, parts.learnt or parts.algorithm.policy.spec)
    if parts.data is not None:
        meta["data"] = parts.data.kept()
    there = _refuse_other(options, meta, parts.data)
    if there is not None and not options.resume:
        fit.check(settings.training, parts.algorithm, parts.source, mesh)  # nothing is removed for a run that cannot begin
        _clear(workdir)

    checkpoints = open_checkpoints(workdir / runs.CHECKPOINTS, settings.checkpoint.keep_last, settings.checkpoint.keep_best)
    runs.write_json(workdir / runs.CONFIG, whole)
    if "data" in meta:
        runs.write_json(workdir / runs.DATA, meta["data"])
    if not options.resume:
        made_by = {name: meta[name] for name in ("versions", "code_version")}
        runs.write_json(workdir / runs.PROVENANCE, {**made_by, "run_id": secrets.token_hex(4)})
    _announce(settings, parts, whole)
    extras = fit.Extras(
        callback=_outputs(options, settings, parts, whole, there if options.resume else None),
        checkpoints=checkpoints,
        meta=meta,
        evaluate=evaluate,
        score=settings.evaluation.score or _score(parts, evaluate),
        crash_directory=workdir / runs.NOT_FINITE,
        say=say,
        sharded=sharded,
    )
    return Prepared(settings, parts, mesh, extras)


def _train(options: argparse.Namespace, config: Any, again: str, began: float) -> int:
    from jaxrl.cli.evaluation import evaluate_run
    from jaxrl.training import fit

    settings, parts, mesh, extras = prepare(options, config)
    try:
        result = fit.fit(settings.training, parts.algorithm, parts.source, extras, mesh, options.resume)
    finally:
        extras.callback.close()
        extras.checkpoints.close()
    if result.interrupted:
        say(f"stopped at update {result.update} and saved; go on with: {again}")
        return 130
    say(f"trained {result.update} updates in {result.seconds:.0f} s; {time.perf_counter() - began:.0f} s since the command")
    if options.skip_evaluation:
        return 0
    try:
        evaluate_run(options.workdir)
    except KeyboardInterrupt:
        say(f"training is done and saved, its evaluation is not; make it with: {_program()} eval {shlex.quote(str(options.workdir))}")
        return 130
    say(f"done after {time.perf_counter() - began:.0f} s; results are in {options.workdir}")
    return 0
