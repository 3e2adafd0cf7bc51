"""What the XLA flags that MJX needs on a CPU cost where there is no MJX: updates of PPO's and of a supervised network.

    python experiments/benchmarks/xla_flags.py

Networks and batches are those of experiments/ppo_go2_flat.py and bc_go2_flat.py; the batch is made once, so only learning is timed. Each
setting lives in a process of its own, and they take turns. `ratio` is seconds without the flags over seconds with them, the worse of the
two networks: below 1 is what the flags cost, and why the native backend runs without them. Takes about two minutes.
"""

import statistics
from functools import partial
from pathlib import Path
from typing import Any

import harness

EXPERIMENTS = Path(__file__).parents[1]
LEARNERS = {"ppo": 5, "supervised": 200}  # updates in a block


def ppo() -> tuple[Any, Any]:
    """The algorithm of the Go2 run and one batch of its source."""
    import jax

    from jaxrl import config as configs
    from jaxrl.cli.assemble import assemble
    from jaxrl.cli.settings import Settings

    config = configs.load(EXPERIMENTS / "ppo_go2_flat.py", ["--config.env.backend=native"])
    parts = assemble(configs.build(Settings, config))
    behaviour = parts.algorithm.behaviour(parts.algorithm.init(jax.random.key(0)))
    source = jax.jit(parts.source.init)(jax.random.key(1), behaviour)
    return parts.algorithm, jax.jit(parts.source.next)(source, behaviour, jax.random.key(2))[1]


def supervised() -> tuple[Any, Any]:
    """Behaviour cloning of the same policy, on numbers drawn at random."""
    import jax

    from jaxrl import config as configs
    from jaxrl.algorithms import supervised as algorithms
    from jaxrl.networks import state_mlp
    from jaxrl.objectives import bc
    from jaxrl.ops import running_statistics
    from jaxrl.types import ArraySpec, PolicySpec

    config = configs.load(EXPERIMENTS / "bc_go2_flat.py")
    network = config.objectives.bc.network
    spec = PolicySpec({"state/all": ArraySpec((47,))}, ArraySpec((12,)))
    of_network = state_mlp.state_mlp(state_mlp.Config(tuple(network.hidden), network.activation), spec.observation, (1, 12))
    stored = running_statistics.init(spec.observation | {"action": spec.action})
    algorithm = algorithms.supervised(algorithms.Config(ema_decay=0.999), {"bc": bc.bc(bc.Config(), spec, of_network)}, {"bc": 1.0}, stored)
    size, keys = config.source.batch_size, jax.random.split(jax.random.key(0))
    batch = {"observation": {"state/all": jax.random.normal(keys[0], (size, 47))}, "action": jax.random.normal(keys[1], (size, 1, 12))}
    return algorithm, batch


def contestant(setting: str) -> None:
    """Answers each learner's name with the seconds of one block of updates."""
    commands = harness.Commands()
    import jax

    def block(name: str) -> Any:
        algorithm, batch = {"ppo": ppo, "supervised": supervised}[name]()
        state = algorithm.init(jax.random.key(0))

        @jax.jit
        def updates(state: Any, batch: Any) -> Any:
            return jax.lax.scan(
                lambda s, key: (algorithm.update(s, batch, key)[0], None), state, jax.random.split(state_key, LEARNERS[name])
            )[0]

        return lambda: harness.timed(updates, state, batch)[0]

    state_key = jax.random.key(3)
    commands.serve({name: block(name) for name in LEARNERS})


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="blocks of each")
    options = parser.parse_args()
    if options.contestant:
        return contestant(*options.contestant)
    from jaxrl_envs.xla_flags import xla_flags

    settings = {"without": {}, "with": {"XLA_FLAGS": xla_flags()}}
    medians: dict[str, dict[str, float]] = {}
    rows = [["ms per update", *settings, "without/with"]]
    with harness.contestants(**{name: partial(harness.Contestant, [name], flags) for name, flags in settings.items()}) as live:
        for learner, updates in LEARNERS.items():
            for each in live.values():  # compiles and warms up
                each.ask(learner), each.ask(learner)
            seconds = harness.alternate(options.repeats, {name: partial(each.ask, learner) for name, each in live.items()})
            each_ms = {name: [1e3 * s / updates for s in values] for name, values in seconds.items()}
            medians[learner] = {name: statistics.median(values) for name, values in each_ms.items()}
            ratio = medians[learner]["without"] / medians[learner]["with"]
            rows.append([learner, *(harness.spread(each_ms[name], 2) for name in settings), f"{ratio:.3f}"])
    harness.table(rows)
    worst = min(medians, key=lambda learner: medians[learner]["without"] / medians[learner]["with"])
    ours, theirs = medians[worst]["with"], medians[worst]["without"]
    harness.report(
        "xla_flags",
        ratio=theirs / ours,
        ours=ours,
        theirs=theirs,
        unit="ms/update",
        learner=worst,
        medians=medians,
        setup=harness.setup(repeats=options.repeats, flags=xla_flags()),
    )
    return None


if __name__ == "__main__":
    main()
