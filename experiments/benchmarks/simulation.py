"""Whole PPO training on control-suite tasks against mujoco_playground with brax's trainer, all on this machine's CPU.

    python experiments/benchmarks/simulation.py             (needs playground and brax: pip install "jaxrl[adapters,bench]")

Same number of worlds, network, hyperparameters and batch for all (see our_trainer.py): 1024 worlds, 16 steps each, 4 epochs of 4
minibatches. Playground's Go1 needs meshes from elsewhere, so the comparison is on three of its control-suite tasks with legs, and on its
cartpole, whose physics are so cheap that either trainer's time is that of its network.

    playground  brax's PPO in playground's environment, impl "jax", with playground's own wrappers
    mjx         our PPO in that very environment, through our adapter
    native      our PPO in our task of the same name: dm_control's model, the same control and physics time steps, on the native backend

The first two run under the XLA flags that MJX needs on a CPU, the last under none. Each lives in a process of its own, they take turns,
one at a time; brax's trainer is timed by its own clock. `ratio` is native over playground, the worst of the tasks with legs. Expected
on two cores: native at least 2, mjx at least 1.
"""

import statistics
import sys
from functools import partial
from typing import Any

import harness
import our_trainer

SETTINGS = our_trainer.Settings()
LEGS = {"CheetahRun": "cheetah_run", "WalkerWalk": "walker_walk", "HumanoidWalk": "humanoid_walk"}  # playground's name: ours
TASKS = {**LEGS, "CartpoleSwingup": "cartpole_swingup"}
CONTESTANTS = ("native", "mjx", "playground")
# Updates in a block, for a few seconds of work.
UPDATES = {("CartpoleSwingup", "native"): 10, ("CheetahRun", "native"): 10}
DEFAULT_UPDATES = 1


def contestant(kind: str, name: str) -> None:
    """Answers `train` with the seconds of one block of updates, for ever."""
    commands = harness.Commands()

    def after_block(seconds: float) -> None:
        commands.answer(seconds)
        commands.receive()

    def training(updates: int) -> None:
        if kind == "playground":
            import brax_peer
            from mujoco_playground import registry, wrapper

            theirs = registry.load(name, config_overrides={"impl": "jax"})
            brax_peer.train(SETTINGS, theirs, updates, after_block, wrapper.wrap_for_brax_training)
        else:
            our_trainer.train(environment(kind, name), SETTINGS, updates, after_block)

    commands.serve({"train": training})


def environment(kind: str, name: str) -> Any:
    if kind == "native":
        from jaxrl_envs.tasks import control_suite

        return control_suite.control_suite(control_suite.Config(task=TASKS[name], backend="native"))
    from jaxrl_envs.adapters import playground

    return playground.playground(playground.Config(task=name, backend="mjx"))


def start(kind: str, name: str) -> harness.Contestant:
    from jaxrl_envs.xla_flags import xla_flags

    return harness.Contestant([kind, name], {} if kind == "native" else {"XLA_FLAGS": xla_flags()})


def speeds(name: str, kinds: list[str], repeats: int) -> dict[str, list[float]]:
    """Env steps per second of whole training: contestant -> one value per block."""
    batch = SETTINGS.num_worlds * SETTINGS.unroll_length
    updates = {kind: UPDATES.get((name, kind), DEFAULT_UPDATES) for kind in kinds}
    with harness.contestants(**{kind: partial(start, kind, name) for kind in kinds}) as live:
        ask = {kind: partial(c.ask, "train", updates=updates[kind]) for kind, c in live.items()}
        for each in ask.values():
            each(), each()  # compile (brax compiles twice) and settle
        return {kind: [batch * updates[kind] / s for s in values] for kind, values in harness.alternate(repeats, ask).items()}


def main() -> int:
    parser = harness.parser(__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.contestant:
        contestant(*options.contestant)
    medians: dict[str, dict[str, float]] = {}
    rows = [["whole training, env steps/s", *options.contestants]]
    for name in options.tasks:
        found = speeds(name, options.contestants, options.repeats)
        medians[name] = {kind: statistics.median(values) for kind, values in found.items()}
        rows.append([name, *(harness.spread(values) for values in found.values())])
    harness.table(rows)
    if not {"native", "playground"} <= set(options.contestants):
        return 0
    ratios = {kind: {n: m[kind] / m["playground"] for n, m in medians.items()} for kind in options.contestants if kind != "playground"}
    worst = min(LEGS.keys() & medians.keys() or medians, key=lambda name: ratios["native"][name])
    harness.report(
        "simulation",
        ratio=ratios["native"][worst],
        ours=medians[worst]["native"],
        theirs=medians[worst]["playground"],
        unit="env steps/s",
        task=worst,
        over_playground=ratios,
        medians=medians,
        setup=harness.setup(**SETTINGS._asdict(), repeats=options.repeats),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
