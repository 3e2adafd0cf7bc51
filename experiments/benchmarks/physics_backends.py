"""How much of MuJoCo's own speed reaches a task: the physics backends against a bare `mujoco.batch.Batch.step` loop.

    python experiments/benchmarks/physics_backends.py

The same worlds, each with randomised fields of its own, follow the same controls from the same start. The bare loop writes the controls
and steps; it never changes a field. A backend runs as it does in training: inside `jit`, `scan` and `vmap`, state in, state out, and two
worlds in a thousand get new physics parameters at each control step, as where episodes end.
`ratio` is native over bare, the worse of the two models. Expected on any CPU: at least 0.85; MJX is slower by the factors printed.
ant is brax's model: pip install brax==0.14.2. Takes about three minutes.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import harness

MODELS = ("go2", "ant")
BACKENDS = ("native", "mjx")


class Scene(NamedTuple):
    """A model in motion."""

    model: Any  # mujoco.MjModel
    ranges: Any  # jaxrl_envs.randomization.Ranges
    substeps: int
    start: dict[str, Any]  # [worlds, ...] the integration state, by name
    ctrl: Any  # [steps, worlds, nu] float32


def scene(name: str, num_worlds: int, steps: int) -> Scene:
    """Worlds that have moved for a second from the model's rest under the kind of noise an untrained policy makes."""
    import numpy as np
    from mujoco.batch import Batch

    from jaxrl_envs.randomization import Ranges

    drawn = np.random.default_rng(0)
    # Delays, offsets, noise and pushes touch no field of the model: they are the task's own arithmetic.
    ranges = Ranges(friction=(0.4, 1.2), link_mass=(0.9, 1.1), motor_gain=(0.85, 1.15))
    if name == "go2":
        from jaxrl_envs.tasks import _go2

        model, substeps = _go2.model(), 4
        rest, held, width = model.key_qpos[0], model.key_ctrl[0], 0.3
        ranges = dataclasses.replace(ranges, payload={"base": (0.0, 2.0)}, center_of_mass={"base": (-0.03, 0.03)})
    else:
        import brax_tasks

        model, substeps = brax_tasks.model(brax_tasks.TASKS[name]), brax_tasks.SUBSTEPS
        rest, held, width = brax_tasks.initial_position(model), 0.0, 0.7
    ctrl = (held + width * drawn.normal(size=(steps, num_worlds, model.nu))).astype(np.float32)
    batch = Batch(model, num_worlds)
    batch.bind("qpos")[:] = rest
    for i in range(20):
        batch.bind("ctrl")[:] = ctrl[i % steps]
        batch.step(nstep=substeps)
    start = {field: batch.bind(field).astype(np.float32) for field in ("qpos", "qvel", "act", "qacc_warmstart", "time")}
    return Scene(model, ranges, substeps, start | {"time": start["time"].reshape(num_worlds)}, ctrl)


def bare(made: Scene) -> Callable[[], float]:
    """Seconds of a loop that writes controls and steps; the worlds' fields are written once, before."""
    import jax
    import numpy as np
    from mujoco.batch import Batch

    from jaxrl_envs import physics, randomization

    num_worlds = made.ctrl.shape[1]
    draw = randomization.randomised(physics.make(made.model, "native"), made.ranges).sample
    batch = Batch(made.model, num_worlds)
    for name, values in jax.vmap(draw)(jax.random.split(jax.random.key(0), num_worlds)).fields.items():
        batch.expand(name)[:] = np.asarray(values)
    batch.set_const()
    batch.bind("sensordata")
    live = {name: batch.bind(name) for name in ("ctrl", *made.start)}
    controls = made.ctrl.astype(np.float64)

    def run() -> float:
        for name, value in made.start.items():
            live[name][:] = value.reshape(live[name].shape)
        start = time.perf_counter()
        for ctrl in controls:
            live["ctrl"][:] = ctrl
            batch.step(nstep=made.substeps)
        return time.perf_counter() - start

    return run


def through_backend(made: Scene, backend: str) -> Callable[[], float]:
    """Seconds of a compiled scan over `Physics.step`, with some worlds' parameters replaced at each control step."""
    import jax
    import jax.numpy as jnp

    from jaxrl_envs import physics, randomization

    steps, num_worlds = made.ctrl.shape[:2]
    engine = physics.make(made.model, backend)
    worlds = randomization.randomised(engine, made.ranges)
    draw = jax.jit(jax.vmap(lambda key: worlds.sample(key).fields))
    first = draw(jax.random.split(jax.random.key(0), num_worlds))
    ending = max(1, num_worlds // 500)  # an episode of 1000 steps that half of the worlds finish early
    rows = (jnp.arange(steps * ending) * 7 % num_worlds).reshape(steps, ending)
    new = jax.tree.map(lambda x: x.reshape(steps, ending, *x.shape[1:]), draw(jax.random.split(jax.random.key(1), steps * ending)))
    begin = physics.PhysicsState(**made.start, sensordata=jnp.zeros((num_worlds, made.model.nsensordata)))
    begin, ctrl = jax.device_put((begin, made.ctrl))

    @jax.jit
    def scan(state: Any, fields: Any) -> Any:
        def control_step(carry: Any, now: Any) -> Any:
            state, fields = carry
            ctrl, rows, new = now
            fields = jax.tree.map(lambda f, n: f.at[rows].set(n), fields, new)
            held = jnp.broadcast_to(ctrl[:, None], (num_worlds, made.substeps, ctrl.shape[-1]))
            state = jax.vmap(engine.step)(state, held, fields)
            return (state, fields), state.sensordata.sum()

        return jax.lax.scan(control_step, (state, fields), (ctrl, rows, new))

    return lambda: harness.timed(scan, begin, first)[0]


def contestant(kind: str, name: str, num_worlds: str, steps: str) -> None:
    """Answers `run` with the seconds of one block."""
    commands = harness.Commands()
    made = scene(name, int(num_worlds), int(steps))
    commands.serve({"run": bare(made) if kind == "bare" else through_backend(made, kind)})


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--num-worlds", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=64, help="control steps in a block")
    parser.add_argument("--repeats", type=int, default=7, help="blocks of each")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    options = parser.parse_args()
    if options.contestant:
        return contestant(*options.contestant)

    if "ant" in options.models:
        harness.require_brax()

    from jaxrl_envs.xla_flags import xla_flags

    flags = {"mjx": {"XLA_FLAGS": xla_flags()}}
    size = (str(options.num_worlds), str(options.steps))
    rows = [["env steps/s", *("bare", *BACKENDS), "native/bare", "mjx/bare"]]
    medians: dict[str, dict[str, float]] = {}
    for name in options.models:
        starts = {kind: partial(harness.Contestant, [kind, name, *size], flags.get(kind)) for kind in ("bare", *BACKENDS)}
        with harness.contestants(**starts) as live:
            for each in live.values():  # compiles and warms up
                each.ask("run"), each.ask("run")
            seconds = harness.alternate(options.repeats, {kind: partial(c.ask, "run") for kind, c in live.items()})
        speeds = {kind: [options.num_worlds * options.steps / s for s in values] for kind, values in seconds.items()}
        medians[name] = {kind: statistics.median(values) for kind, values in speeds.items()}
        ratios = [medians[name][backend] / medians[name]["bare"] for backend in BACKENDS]
        rows.append([name, *(harness.spread(speeds[kind]) for kind in ("bare", *BACKENDS)), *(f"{r:.3f}" for r in ratios)])
    harness.table(rows)
    worst = min(medians, key=lambda name: medians[name]["native"] / medians[name]["bare"])
    ours, theirs = medians[worst]["native"], medians[worst]["bare"]
    harness.report(
        "physics_backends",
        ratio=ours / theirs,
        ours=ours,
        theirs=theirs,
        unit="env steps/s",
        model=worst,
        medians=medians,
        setup=harness.setup(num_worlds=options.num_worlds, steps=options.steps, repeats=options.repeats, substeps={"go2": 4, "ant": 5}),
    )


if __name__ == "__main__":
    main()
