"""`jaxrl train`: an experiment file in, a run folder out."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxrl import config as configs
from jaxrl.cli import run as runs
from jaxrl.cli.run import say


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jaxrl train", description="Trains, evaluates, and draws the learning curve and a video.")
    parser.add_argument("--config", required=True, type=Path, help="experiment file; --config.section.field=value overrides a field")
    parser.add_argument("--workdir", required=True, type=Path, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the latest checkpoint in the workdir")
    parser.add_argument("--force", action="store_true", help="resume although config or code differ; start anew although a run is there")
    parser.add_argument("--wandb", metavar="PROJECT", help="log to Weights & Biases too")
    parser.add_argument("--skip-evaluation", action="store_true", help="stop after training")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    began = time.perf_counter()
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    config = configs.load(options.config, runs.explain_arguments(parser, unknown))
    runs.prepare_backend(config)
    return _train(options, config, began)


def _announce(settings: Any, parts: Any, shapes: Any) -> None:
    import jax

    device = jax.devices()[0]
    parameters = sum(x.size for x in jax.tree.leaves(shapes.params))
    worlds = f"{settings.source['num_worlds']} worlds of {parts.env.spec.name}, " if "num_worlds" in settings.source else ""
    updates, each = settings.training.total_updates, parts.source.steps_per_batch * settings.training.num_seeds
    steps = f"{updates} updates of {each:,} steps, {updates * each:,} in all" if each else f"{updates} updates"
    seeds = f", {settings.training.num_seeds} seeds" if settings.training.num_seeds > 1 else ""
    say(f"{settings.algorithm['name']} on {device.platform} ({jax.device_count()} device(s)): {worlds}{parameters:,} parameters{seeds}")
    say(f"{steps}; compiling first, some 10 to 20 s on two CPU cores")


def _refuse_other(options: argparse.Namespace, checkpoints: Any, config: Any) -> None:
    """Refuses to start over a run, or to resume one of another config or code."""
    from jaxrl.training.checkpoint import refuse_difference
    from jaxrl.training.provenance import code_version, versions

    there = checkpoints.latest()
    if there is None:
        if options.resume:
            raise ValueError(f"{options.workdir}: nothing to resume, there is no checkpoint yet; leave out --resume")
        return
    if options.resume and not options.force:
        refuse_difference(checkpoints.meta(), config, versions(), code_version())
    if not options.resume:
        if not options.force:
            raise ValueError(
                f"{options.workdir}: holds a run at update {there}; "
                "go on with --resume, choose another --workdir, or start anew with --force"
            )
        checkpoints.drop_after(-1)


def _train(options: argparse.Namespace, config: Any, began: float) -> int:
    import jax

    from jaxrl.cli.assemble import Settings, assemble
    from jaxrl.cli.evaluation import evaluate_run, periodic
    from jaxrl.distributed.mesh import data_mesh
    from jaxrl.ops import specs
    from jaxrl.training import callbacks, fit
    from jaxrl.training.checkpoint import open_checkpoints
    from jaxrl.training.compilation_cache import enable_compilation_cache
    from jaxrl.training.provenance import code_version, versions

    settings = configs.build(Settings, config, "config")
    enable_compilation_cache()
    mesh = data_mesh(settings.devices)
    parts = assemble(settings, mesh)
    evaluate = periodic(settings, parts.env, parts.algorithm.policy)
    shapes = jax.eval_shape(parts.algorithm.init, jax.random.key(0))
    checkpoints = open_checkpoints(options.workdir / runs.CHECKPOINTS, settings.checkpoint.keep_last, settings.checkpoint.keep_best)
    _refuse_other(options, checkpoints, config)
    runs.write_json(options.workdir / runs.CONFIG, configs.plain(config))
    _announce(settings, parts, shapes)

    meta = {
        "config": configs.plain(config),
        "spec": specs.to_json(parts.algorithm.policy.spec),
        "versions": versions(),
        "code_version": code_version(),
    }
    resumed_at = checkpoints.latest() if options.resume else None
    outputs = [
        callbacks.console(shown=runs.shown(parts.env, parts.source.steps_per_batch > 0)),
        callbacks.jsonl(options.workdir / runs.METRICS, resumed_at),
        callbacks.tensorboard(options.workdir / "tensorboard", resumed_at),
    ]
    if options.wandb:
        outputs.append(callbacks.wandb(options.wandb, configs.plain(config), options.workdir))
    callback = callbacks.several(*outputs)
    extras = fit.Extras(
        callback=callback,
        checkpoints=checkpoints,
        meta=meta,
        evaluate=evaluate,
        score=settings.evaluation.score,
        crash_directory=options.workdir / "not_finite",
        say=say,
    )
    try:
        result = fit.fit(settings.training, parts.algorithm, parts.source, extras, mesh, options.resume)
    finally:
        callback.close()
        checkpoints.close()
    if result.interrupted:
        again = f"jaxrl train --config {options.config} --workdir {options.workdir} --resume"
        say(f"stopped at update {result.update} and saved; go on with: {again}")
        return 130
    say(f"trained {result.update} updates in {result.seconds:.0f} s; {time.perf_counter() - began:.0f} s since the command")
    if options.skip_evaluation or parts.env is None:
        return 0
    evaluate_run(options.workdir)
    say(f"done after {time.perf_counter() - began:.0f} s; results are in {options.workdir}")
    return 0
