"""Bytes that a rollout carries per world, and seconds to compile it, beside mujoco_playground.

    python experiments/benchmarks/memory.py                 (needs playground and dm_control: pip install "jaxrl[adapters,suite]")

The worlds of three control-suite tasks under automatic resets, each in a process of its own, without a compilation cache: ours on every
backend that is installed; playground's with impl "jax" in the wrappers that brax's trainers use; and the same in our rollout, through our
adapter, for the suite's own models, which are ours, ask for more of the solver, and in cartpole for Runge-Kutta. A program of 20 steps
with random actions is traced and compiled, not run; bytes are those of all that it carries from step to step, the pool of starts
included. The Go2 task of experiments/ppo_go2_flat.py, with all its physics parameters, is measured too; playground's Go1 needs meshes
from elsewhere. `ratio` is playground's bytes over ours with the backend that carries most, the worst of the tasks: above 1 is less
memory. Compile times are in `compile_seconds`. Takes about ten minutes on two cores.
"""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import harness

TASKS = {"CartpoleSwingup": "cartpole_swingup", "CheetahRun": "cheetah_run", "WalkerWalk": "walker_walk"}  # playground's name: ours
LENGTH = 20
GO2 = "Go2 flat"
ADAPTER = "playground, in ours"


def _bytes(tree: Any) -> int:
    import jax

    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(lambda x: x, tree)) if not _is_key(x))


def _is_key(x: Any) -> bool:
    import jax

    return bool(jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key))


def ours(backend: str, name: str, num_worlds: int) -> tuple[Any, Any]:
    """A rollout's step, and the shapes of its state."""
    import jax
    import jax.numpy as jnp

    from jaxrl.curricula.static import fixed
    from jaxrl.rollout.auto_reset import Draws, auto_reset

    if name == GO2:
        from jaxrl import config as configs
        from jaxrl.cli.assemble import assemble
        from jaxrl.cli.settings import Settings

        config = configs.load(Path(__file__).parents[1] / "ppo_go2_flat.py", [f"--config.env.backend={backend}"])
        env = assemble(configs.build(Settings, config)).env
    elif backend == ADAPTER:
        from jaxrl_envs.adapters import playground

        env = playground.playground(playground.Config(task=name))
    else:
        from jaxrl_envs.tasks import control_suite

        env = control_suite.control_suite(control_suite.Config(task=TASKS[name], backend=backend))
    curriculum = fixed(env.sample)
    worlds = auto_reset(env, curriculum)

    def begin(key: Any) -> Any:
        draws = Draws(curriculum.init(), curriculum.tally())
        starts = worlds.pool(key, draws)
        return worlds.init(key, jnp.arange(num_worlds, dtype=jnp.int32), starts, draws), starts, draws

    def step(state: Any, key: Any) -> tuple[Any, Any]:
        current, starts, draws = state
        action = jax.random.uniform(key, (num_worlds, *env.spec.action.shape), minval=-1.0, maxval=1.0)
        current, draws, result, _ = worlds.step(current, action, starts, draws, key)
        return (current, starts, draws), result.reward.sum()

    return step, jax.eval_shape(begin, jax.random.key(0))


def theirs(name: str, num_worlds: int) -> tuple[Any, Any]:
    import jax
    from mujoco_playground import registry, wrapper

    inner = registry.load(name, config_overrides={"impl": "jax"})
    env = wrapper.wrap_for_brax_training(inner, episode_length=1000)

    def step(state: Any, key: Any) -> tuple[Any, Any]:
        state = env.step(state, jax.random.uniform(key, (num_worlds, env.action_size), minval=-1.0, maxval=1.0))
        return state, state.reward.sum()

    return step, jax.eval_shape(env.reset, jax.random.split(jax.random.PRNGKey(0), num_worlds))


def contestant(kind: str, name: str, num_worlds: str) -> None:
    """Answers `measure` with bytes per world and the seconds to trace and compile."""
    commands = harness.Commands()
    import jax

    size = int(num_worlds)

    def measure() -> dict[str, float]:
        step, state = theirs(name, size) if kind == "playground" else ours(kind, name, size)
        program = jax.jit(lambda state, key: jax.lax.scan(step, state, jax.random.split(key, LENGTH)), donate_argnums=0)
        start = time.perf_counter()
        program.lower(state, jax.eval_shape(lambda: jax.random.key(0))).compile()
        return {"bytes": _bytes(state) / size, "seconds": time.perf_counter() - start}

    commands.serve({"measure": measure})


def measured(kind: str, name: str, num_worlds: int) -> dict[str, float]:
    from jaxrl_envs.xla_flags import xla_flags

    live = harness.Contestant([kind, name, str(num_worlds)], {} if kind == "native" else {"XLA_FLAGS": xla_flags()})
    try:
        return live.ask("measure")
    finally:
        live.close()


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--num-worlds", type=int, default=1024)
    parser.add_argument("--tasks", nargs="+", default=[*TASKS, GO2], choices=[*TASKS, GO2])
    options = parser.parse_args()
    if options.contestant:
        return contestant(*options.contestant)
    own = ["native", "mjx", *(["warp"] if find_spec("warp") else [])]
    found: dict[str, dict[str, dict[str, float]]] = {}
    peers = [ADAPTER, "playground"]
    rows = [["bytes per world, seconds to compile", *own, *peers]]
    for name in options.tasks:
        kinds = own if name == GO2 else [*own, *peers]
        found[name] = {kind: measured(kind, name, options.num_worlds) for kind in kinds}
        cells = (f"{one['bytes']:,.0f} B {one['seconds']:.1f} s" for one in found[name].values())
        rows.append([name, *cells, *(["-"] * (len(own) + len(peers) - len(kinds)))])
    harness.table(rows)
    compared = {name: max(each[kind]["bytes"] for kind in own) for name, each in found.items() if "playground" in each}
    if not compared:
        return None
    worst = min(compared, key=lambda name: found[name]["playground"]["bytes"] / compared[name])
    harness.report(
        "memory",
        ratio=found[worst]["playground"]["bytes"] / compared[worst],
        ours=compared[worst],
        theirs=found[worst]["playground"]["bytes"],
        unit="bytes/world",
        task=worst,
        bytes_per_world={name: {kind: one["bytes"] for kind, one in each.items()} for name, each in found.items()},
        compile_seconds={name: {kind: one["seconds"] for kind, one in each.items()} for name, each in found.items()},
        setup=harness.setup(num_worlds=options.num_worlds, steps=LENGTH),
    )
    return None


if __name__ == "__main__":
    main()
