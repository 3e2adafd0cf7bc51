"""PPO on brax's ant and half-cheetah: our trainer on both physics backends against brax 0.14.2's trainer with its MJX backend.

    python experiments/benchmarks/ppo_vs_brax.py            (needs brax: pip install brax==0.14.2)
    python experiments/benchmarks/ppo_vs_brax.py --check    (is our environment theirs?)

Same model file, solver options, observation, reward and termination (see brax_tasks.py), same network, hyperparameters and batch: 1024
worlds, 16 steps each, 4 epochs of 4 minibatches. The network is not brax's default (policy 4 x 32, value 5 x 256), whose value function
alone takes most of either trainer's time on two cores: both get two layers of 128. brax's trainer needs one removed name of jax put back
(see brax_peer.py). It and our MJX backend run under the XLA flags that MJX needs on a CPU, our native backend under none.

Whole training is `jaxrl.training.fit`, by the wall clock, against `brax.training.agents.ppo.train`, by its own clock (`training/sps`),
which is kinder to it. Rollouts are what each trainer collects, without updates. The first update is timed from the launch of a process
with an empty compilation cache. The three contestants live in processes of their own and take turns, one at a time.
`ratio` is whole training, native over brax, the worse of the two models. Expected on two cores: rollouts at least 3, whole training at
least 1.8 (our mjx: 1.0), first update at most half the time. Takes about ten minutes.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import harness
import our_trainer

SETTINGS = our_trainer.Settings()
MODELS = ("ant", "half_cheetah")
CONTESTANTS = ("native", "mjx", "brax")
# Updates in a block of whole training and steps in one of rollouts, for a few seconds of work: MJX is slow on half-cheetah.
UPDATES = {("half_cheetah", "mjx"): 1, ("half_cheetah", "brax"): 1, ("ant", "mjx"): 3, ("ant", "brax"): 3}
STEPS = {("half_cheetah", "mjx"): 4, ("half_cheetah", "brax"): 4, ("ant", "mjx"): 32, ("ant", "brax"): 32}
DEFAULT_UPDATES, DEFAULT_STEPS = 10, 128


def our_rollout(name: str, backend: str, length: int) -> Callable[[], float]:
    """Seconds of one batch of `length` steps from our rollout source."""
    import brax_tasks
    import jax

    parts = our_trainer.parts(brax_tasks.brax_task(name, backend), SETTINGS, length)
    behaviour = parts.algorithm.behaviour(parts.algorithm.init(jax.random.key(0)))
    advance = jax.jit(parts.source.next, donate_argnums=0)
    state = jax.jit(parts.source.init)(jax.random.key(1), behaviour)
    step = 0

    def run() -> float:
        nonlocal state, step
        step += 1
        seconds, (state, _) = harness.timed(advance, state, behaviour, jax.random.key(step))
        return seconds

    return run


def our_physics(name: str, backend: str, length: int) -> Callable[[], float]:
    """Seconds of the physics of `length` steps, nothing else, under uniform random actions."""
    import brax_tasks
    import jax
    import jax.numpy as jnp

    from jaxrl_envs.physics import make

    env = brax_tasks.brax_task(name, backend)
    physics = make(brax_tasks.model(brax_tasks.TASKS[name]), backend)
    num_worlds, action_size = SETTINGS.num_worlds, env.spec.action.shape[0]
    actions = jax.random.uniform(jax.random.key(1), (length, num_worlds, action_size), minval=-1.0, maxval=1.0)

    @jax.jit
    def scan(state: Any, actions: Any) -> Any:
        def step(state: Any, action: Any) -> Any:
            held = jnp.broadcast_to(action[:, None], (num_worlds, brax_tasks.SUBSTEPS, action_size))
            return jax.vmap(physics.step, (0, 0, None))(state, held, env.nominal), None

        return jax.lax.scan(step, state, actions)[0]

    state, _ = jax.jit(jax.vmap(env.reset, (0, None)))(jax.random.split(jax.random.key(0), num_worlds), env.nominal)

    def run() -> float:
        nonlocal state
        seconds, state = harness.timed(scan, state, actions)
        return seconds

    return run


def our_train(name: str, backend: str, updates: int, after_block: Callable[[float], None]) -> None:
    """Runs our trainer until the process ends."""
    import brax_tasks

    our_trainer.train(brax_tasks.brax_task(name, backend), SETTINGS, updates, after_block)


def contestant(kind: str, name: str) -> None:
    """Answers `rollout` and `physics` with the seconds of one block, `train` with those of one block of updates, for ever."""
    commands = harness.Commands()
    if kind == "brax":
        import brax_peer
        import brax_tasks

        there = brax_tasks.TASKS[name].brax_name
        measures: dict[str, Any] = {"rollout": brax_peer.rollout, "physics": brax_peer.physics}
        measures = {what: partial(m, SETTINGS, there) for what, m in measures.items()}
        train: Callable[..., None] = partial(brax_peer.train, SETTINGS, brax_peer.environment(there))
        check = partial(brax_peer.check, name)
    else:
        measures = {"rollout": our_rollout, "physics": our_physics}
        measures = {what: partial(m, name, kind) for what, m in measures.items()}
        train = partial(our_train, name, kind)
    made: dict[str, Callable[[], float]] = {}

    def measure(what: str, steps: int) -> float:
        if what not in made:
            made.clear()  # one at a time in memory
            made[what] = measures[what](steps)
        return made[what]()

    def training(updates: int) -> None:
        made.clear()

        def after_block(seconds: float) -> None:
            commands.answer(seconds)
            commands.receive()

        train(updates, after_block)

    commands.serve({"measure": measure, "train": training, **({"check": check} if kind == "brax" else {})})


def start(kind: str, name: str, environment: dict[str, str] | None = None) -> harness.Contestant:
    from jaxrl_envs.xla_flags import xla_flags

    flags = {} if kind == "native" else {"XLA_FLAGS": xla_flags()}
    return harness.Contestant([kind, name], {**flags, **(environment or {})})


def speeds(name: str, kinds: list[str], repeats: int) -> dict[str, dict[str, list[float]]]:
    """Env steps per second: measure -> contestant -> one value per block."""
    found: dict[str, dict[str, list[float]]] = {}
    with harness.contestants(**{kind: partial(start, kind, name) for kind in kinds}) as live:
        for what in ("physics", "rollout"):
            length = {kind: STEPS.get((name, kind), DEFAULT_STEPS) for kind in kinds}
            ask = {kind: partial(c.ask, "measure", what=what, steps=length[kind]) for kind, c in live.items()}
            found[what] = _blocks(ask, repeats, {kind: SETTINGS.num_worlds * length[kind] for kind in kinds})
        updates = {kind: UPDATES.get((name, kind), DEFAULT_UPDATES) for kind in kinds}
        batch = SETTINGS.num_worlds * SETTINGS.unroll_length
        ask = {kind: partial(c.ask, "train", updates=updates[kind]) for kind, c in live.items()}
        found["training"] = _blocks(ask, repeats, {kind: batch * updates[kind] for kind in kinds})
    return found


def _blocks(ask: dict[str, Callable[[], float]], repeats: int, steps: dict[str, int]) -> dict[str, list[float]]:
    """Two blocks of each to compile (brax compiles twice) and settle, then `repeats` in turns, in env steps per second."""
    for each in ask.values():
        each(), each()
    return {kind: [steps[kind] / s for s in values] for kind, values in harness.alternate(repeats, ask).items()}


def first_update(kind: str, name: str) -> float:
    """Seconds from the launch of a process to its first update, everything compiled anew."""
    with tempfile.TemporaryDirectory() as cache:
        live = start(kind, name, {"JAX_COMPILATION_CACHE_DIR": cache})
        try:
            live.ask("train", updates=1)
            return time.perf_counter() - live.launched
        finally:
            live.close()


def split(found: dict[str, dict[str, float]], kind: str) -> dict[str, float]:
    """Microseconds per env step: physics, the rest of the rollout, and the update."""
    physics, rollout, training = (1e6 / found[what][kind] for what in ("physics", "rollout", "training"))
    return {"physics": physics, "policy and env": rollout - physics, "update": training - rollout}


def run_check(models: list[str]) -> int:
    """Prints how far our environments are from brax's; 1 where one is another task."""
    limits = {"reset": 1e-5, "reward": 1e-4, "discount": 0.0, "share": 0.01, "observation": 0.05}
    wrong = []
    for name in models:
        with harness.contestants(brax=partial(start, "brax", name)) as live:
            apart = live["brax"].ask("check")
        print(name, ", ".join(f"{key} {value:.2g}" for key, value in apart.items()), flush=True)
        wrong += [f"{name}: {key} differs by {apart[key]:.3g}, more than {limit:g}" for key, limit in limits.items() if apart[key] > limit]
    print("\n".join(wrong) or "the same tasks")
    return int(bool(wrong))


def main() -> int:
    parser = harness.parser(__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--repeats", type=int, default=3, help="blocks of each measure")
    parser.add_argument("--launches", type=int, default=3, help="launches to a first update of native and brax; 0 leaves them out")
    parser.add_argument("--check", action="store_true", help="only compare our environments with brax's")
    options = parser.parse_args()
    if options.contestant:
        contestant(*options.contestant)
    harness.require_brax()
    if options.check:
        return run_check(options.models)
    medians: dict[str, dict[str, dict[str, float]]] = {}
    for name in options.models:
        found = speeds(name, options.contestants, options.repeats)
        launches = {kind: partial(first_update, kind, name) for kind in options.contestants if kind != "mjx"}
        first = harness.alternate(options.launches, launches)
        medians[name] = {what: {kind: statistics.median(v) for kind, v in by.items()} for what, by in found.items()}
        show(name, found, first, medians[name])
        medians[name]["first_update"] = {kind: statistics.median(v) for kind, v in first.items() if v}
    if not {"native", "brax"} <= set(options.contestants):
        return 0
    ratios = {name: {what: by["native"] / by["brax"] for what, by in m.items() if "brax" in by} for name, m in medians.items()}
    worst = min(options.models, key=lambda name: ratios[name]["training"])
    harness.report(
        "ppo_vs_brax",
        ratio=ratios[worst]["training"],
        ours=medians[worst]["training"]["native"],
        theirs=medians[worst]["training"]["brax"],
        unit="env steps/s",
        model=worst,
        native_over_brax=ratios,
        mjx_over_brax={n: m["training"]["mjx"] / m["training"]["brax"] for n, m in medians.items() if "mjx" in m["training"]},
        medians=medians,
        setup=harness.setup(**SETTINGS._asdict(), repeats=options.repeats, launches=options.launches),
    )
    return 0


def show(name: str, found: dict, first: dict[str, list[float]], medians: dict[str, dict[str, float]]) -> None:
    """Prints one model's figures."""
    rows = [[name, *found["training"]]]
    titles = {"physics": "physics alone, env steps/s", "rollout": "rollouts, env steps/s", "training": "whole training, env steps/s"}
    for what, title in titles.items():
        rows.append([title, *(harness.spread(values) for values in found[what].values())])
    rows.append(["launch to first update, s", *(harness.spread(first[k], 1) if first.get(k) else "" for k in found["training"])])
    parts = {kind: split(medians, kind) for kind in found["training"]}
    for part in ("physics", "policy and env", "update"):
        rows.append([f"  {part}, us per env step", *(f"{parts[kind][part]:.1f}" for kind in parts)])
    harness.table(rows)
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
