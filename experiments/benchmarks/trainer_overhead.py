"""What `fit` adds to a run: metrics, progress display, JSON lines, TensorBoard, checkpoints, the watch for numbers that are none.

    python experiments/benchmarks/trainer_overhead.py

The Go2 run of `make train`, whole, against the same updates compiled into the same kind of call and run in a bare loop, from the same
seed, in turns. A checkpoint is saved in every block, which is more often than the default interval when blocks are shorter than that.
`ratio` is bare over whole, in seconds; expected above 0.98 on any machine. Takes about three minutes.
"""

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import harness

EXPERIMENT = Path(__file__).parents[1] / "ppo_go2_flat.py"


def settings() -> Any:
    """The experiment's, checked."""
    from jaxrl import config as configs
    from jaxrl.cli.settings import Settings

    return configs.build(Settings, configs.load(EXPERIMENT), "config")


def steps_per_call() -> int:
    """Environment steps in a compiled call."""
    from jaxrl.cli.assemble import assemble

    read = settings()
    return assemble(read).source.steps_per_batch * read.training.updates_per_call


def bare(commands: harness.Commands, calls: int) -> None:
    """Answers each command with the seconds of a block of compiled calls, for ever."""
    import jax

    from jaxrl.cli.assemble import assemble
    from jaxrl.training import fit

    read = settings()
    _, algorithm, source = assemble(read)
    update = fit.one_update(algorithm, source)

    def updates(run: fit.Run, key: Any) -> Any:
        return jax.lax.scan(lambda run, _: update(run, key), run, length=read.training.updates_per_call)

    key = fit.run_keys(read.training)[0]
    run = fit.compile_program(read.training, algorithm, source, key[None]).run
    call = jax.jit(updates, donate_argnums=0)

    def block() -> float:
        nonlocal run
        start = time.perf_counter()
        for _ in range(calls):
            run, metrics = call(run, key)
        jax.block_until_ready((run, metrics))
        return time.perf_counter() - start

    commands.serve({"block": block})


def whole(commands: harness.Commands, calls: int, checkpoint_seconds: float, directory: Path) -> None:
    """The same as `jaxrl train` runs it, live progress display included."""
    from jaxrl import config as configs
    from jaxrl.cli import train
    from jaxrl.training import callbacks, fit

    endless = settings().training.updates_per_call * 100_000
    config = configs.load(EXPERIMENT)
    config.training.update({"total_updates": endless, "checkpoint_seconds": checkpoint_seconds})
    options = train.make_parser().parse_args(["--config", str(EXPERIMENT), "--workdir", str(directory)])
    read, parts, mesh, extras = train.prepare(options, config)
    commands.receive()
    began, count = time.perf_counter(), 0  # the first block compiles

    def turn(report: callbacks.Report) -> None:
        nonlocal began, count
        count += 1
        if count % calls == 0:
            commands.answer(time.perf_counter() - began)
            commands.receive()
            began = time.perf_counter()

    callback = callbacks.several(extras.callback, callbacks.Callback(turn, lambda: None))
    fit.fit(read.training, parts.algorithm, parts.source, extras._replace(callback=callback), mesh)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--calls", type=int, default=12, help="compiled calls in a block")
    parser.add_argument("--repeats", type=int, default=4, help="blocks of each")
    options = parser.parse_args()
    if options.contestant:
        kind, calls, *rest = options.contestant
        if kind == "bare":
            bare(harness.Commands(), int(calls))
        whole(harness.Commands(), int(calls), float(rest[0]), Path(rest[1]))
    calls = str(options.calls)
    with harness.contestants(bare=partial(harness.Contestant, ["bare", calls])) as first:
        first["bare"].ask("block")
        block = first["bare"].ask("block")
        # Longer than a block and shorter than two: every block then begins with a checkpoint, since the other's turn lies between.
        with (
            tempfile.TemporaryDirectory() as directory,
            # FORCE_COLOR: the progress display is drawn as on a terminal
            harness.contestants(
                whole=partial(harness.Contestant, ["whole", calls, str(1.4 * block), directory], {"FORCE_COLOR": "1"})
            ) as second,
        ):
            live = {**first, **second}
            second["whole"].ask("block")
            seconds = harness.alternate(options.repeats, {name: partial(each.ask, "block") for name, each in live.items()})
    theirs, ours = (statistics.median(seconds[name]) for name in ("bare", "whole"))
    harness.table([["", "seconds per block"], *([name, harness.spread(values, 2)] for name, values in seconds.items())])
    steps = steps_per_call() * options.calls
    harness.report(
        "trainer_overhead",
        ratio=theirs / ours,
        ours=steps / ours,
        theirs=steps / theirs,
        unit="env steps/s",
        seconds=seconds,
        setup=harness.setup(calls=options.calls, repeats=options.repeats, checkpoint_every_seconds=ours),
    )


if __name__ == "__main__":
    main()
