"""Rollout steps per second and memory of the Go2 task against the number of worlds, from 64 to 4096, on the native backend.

    python experiments/benchmarks/worlds.py [--backend mjx] [--picture FILE]

Each number of worlds runs in a process of its own, one after the other, with all the randomisation of experiments/ppo_go2_flat.py and a
policy of two layers of 128. Memory is the largest the process ever held (its resident set). `ratio` is the speed at 4096 worlds over
that at 64; `theirs` is the latter.
"""

import resource
import statistics
import sys
from pathlib import Path
from typing import Any

import harness

WORLDS = (64, 128, 256, 512, 1024, 2048, 4096)
LENGTH = 20


def contestant(backend: str, num_worlds: str) -> None:
    """Answers `rollout` with the seconds of one batch, and `memory` with the largest resident set in GiB."""
    commands = harness.Commands()
    import jax

    from jaxrl import config as configs
    from jaxrl.cli.assemble import assemble
    from jaxrl.cli.settings import Settings

    config = configs.load(Path(__file__).parents[1] / "ppo_go2_flat.py", [f"--config.env.backend={backend}"])
    config.source.num_worlds, config.source.unroll_length = int(num_worlds), LENGTH
    parts = assemble(configs.build(Settings, config))
    behaviour = parts.algorithm.behaviour(parts.algorithm.init(jax.random.key(0)))
    advance = jax.jit(parts.source.next, donate_argnums=0)
    state = jax.jit(parts.source.init)(jax.random.key(1), behaviour)
    step = 0

    def rollout() -> float:
        nonlocal state, step
        step += 1
        seconds, (state, _) = harness.timed(advance, state, behaviour, jax.random.key(step))
        return seconds

    commands.serve({"rollout": rollout, "memory": lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20})


def measure(backend: str, num_worlds: int, repeats: int) -> dict[str, Any]:
    environment = {}
    if backend == "mjx":
        from jaxrl_envs.xla_flags import xla_flags

        environment = {"XLA_FLAGS": xla_flags()}
    live = harness.Contestant([backend, str(num_worlds)], environment)
    try:
        live.ask("rollout"), live.ask("rollout")
        speeds = [num_worlds * LENGTH / live.ask("rollout") for _ in range(repeats)]
        return {"steps_per_second": statistics.median(speeds), "spread": harness.spread(speeds), "memory_gib": live.ask("memory")}
    finally:
        live.close()


def draw(found: dict[int, dict[str, Any]], picture: Path) -> None:
    """Speed and memory against the number of worlds, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    columns = {"steps_per_second": "rollout steps per second", "memory_gib": "largest memory [GiB]"}
    for axes, (column, label) in zip(figure.subplots(1, 2), columns.items(), strict=True):
        axes.plot(list(found), [one[column] for one in found.values()], "o-", color="#2a6f97")
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(found), [str(n) for n in found])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("worlds")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=100)


def main() -> int:
    parser = harness.parser(__doc__)
    parser.add_argument("--picture", type=Path, help="draw the curve to this PNG")
    parser.add_argument("--backend", default="native", choices=("native", "mjx"))
    parser.add_argument("--worlds", type=int, nargs="+", default=list(WORLDS))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.contestant:
        contestant(*options.contestant)
    found = {n: measure(options.backend, n, options.repeats) for n in options.worlds}
    rows = [["worlds", "rollout steps/s", "memory, GiB"]]
    rows += [[str(n), one["spread"], f"{one['memory_gib']:.2f}"] for n, one in found.items()]
    harness.table(rows)
    if options.picture:
        draw(found, options.picture)
    first, last = (found[n]["steps_per_second"] for n in (min(found), max(found)))
    harness.report(
        "worlds",
        ratio=last / first,
        ours=last,
        theirs=first,
        unit="env steps/s",
        curve={str(n): {k: v for k, v in one.items() if k != "spread"} for n, one in found.items()},
        setup=harness.setup(backend=options.backend, unroll_length=LENGTH, repeats=options.repeats),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
