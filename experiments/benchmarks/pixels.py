"""How many camera images a second: the pool of renderers against MuJoCo's own renderer with its default settings, world after world.

    python experiments/benchmarks/pixels.py

The same poses of the same models by the same camera. Theirs is `mujoco.Renderer`, as gymnasium and dm_control use it: one context, one
world after another, shadows, reflections and multisampling on. Then a whole step of many worlds under random actions, as training takes
it: inside `jit` and `scan`, with and without images.
`ratio` is pool over theirs, the worst of all scenes and sizes. Expected: at least 10 on any CPU that draws in software. cheetah is
dm_control's model, left out where that is not installed. Takes about five minutes.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import harness

SCENES = {"cheetah": "side", "cartpole": "side", "go2": "track"}
SIZES = (64, 84, 128)
WORLDS = (64, 256)
BLOCK = 1.5  # s of the pool in one block
THEIR_BLOCK = 8  # pictures, which take longer
STEPS = 16  # of every world, in one block of whole steps


def model(name: str) -> Any:
    """The drawn model; None where its package is not installed."""
    if name == "cartpole":
        from jaxrl_envs.tasks import cartpole

        return cartpole.model()
    if name == "go2":
        from jaxrl_envs.tasks import go2_flat

        return go2_flat.model()
    import mujoco

    try:
        from dm_control.suite import cheetah
    except ModuleNotFoundError:
        return None
    return mujoco.MjModel.from_xml_string(*cheetah.get_model_and_assets())


def poses(made: Any, num_worlds: int) -> Any:
    """Joint positions about the model's rest, [num_worlds, nq]."""
    import numpy as np

    rest = made.key_qpos[0] if made.nkey else made.qpos0
    drawn = np.tile(rest, (num_worlds, 1))
    drawn[:, -min(made.nu + 1, made.nq) :] += 0.3 * np.random.default_rng(0).normal(size=(num_worlds, min(made.nu + 1, made.nq)))
    return drawn


def pooled(made: Any, camera: str, size: int, num_worlds: int) -> Callable[[], float]:
    """Pictures a second by our pool."""
    import numpy as np

    from jaxrl_envs.rendering import Pool

    pool, qpos, out = Pool(made, (camera,), size, size), poses(made, num_worlds), [np.empty((num_worlds, size, size, 3), np.uint8)]
    pool.draw({"qpos": qpos}, {}, out)

    def run() -> float:
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < BLOCK:
            pool.draw({"qpos": qpos}, {}, out)
            count += num_worlds
        return count / (time.perf_counter() - start)

    return run


def one_by_one(made: Any, camera: str, size: int) -> Callable[[], float]:
    """Pictures a second by `mujoco.Renderer` as it comes."""
    import mujoco

    data, renderer = mujoco.MjData(made), mujoco.Renderer(made, size, size)

    def run() -> float:
        start = time.perf_counter()
        for qpos in poses(made, THEIR_BLOCK):
            data.qpos[:] = qpos
            mujoco.mj_forward(made, data)
            renderer.update_scene(data, camera)
            renderer.render()
        return THEIR_BLOCK / (time.perf_counter() - start)

    run()
    return run


def whole_step(name: str, size: int, num_worlds: int) -> Callable[[], float]:
    """Steps of all worlds a second; without images where `size` is 0."""
    import jax
    import jax.numpy as jnp

    from jaxrl_envs.tasks import cartpole, go2_flat
    from jaxrl_envs.wrappers import pixels

    env: Any = cartpole.cartpole() if name == "cartpole" else go2_flat.go2_flat()
    if size:
        env = pixels.pixels(pixels.Config((SCENES[name],), size, size), env)
    keys = jax.random.split(jax.random.key(0), num_worlds)
    parameters = jax.vmap(env.sample)(keys)

    @jax.jit
    def run(state: Any, key: Any) -> Any:
        def step(state: Any, key: Any) -> Any:
            action = jax.random.uniform(key, (num_worlds, *env.spec.action.shape), minval=-1.0, maxval=1.0)
            state, result = jax.vmap(env.step)(state, action, parameters, jax.random.split(key, num_worlds))
            return state, jax.tree.map(jnp.sum, (result.reward, result.observation))

        return jax.lax.scan(step, state, jax.random.split(key, STEPS))

    state = jax.block_until_ready(jax.jit(jax.vmap(env.reset))(keys, parameters)[0])
    return lambda: num_worlds * STEPS / harness.timed(run, state, jax.random.key(1))[0]


def contestant(kind: str, name: str, size: str, num_worlds: str) -> None:
    """Answers `run` with a speed."""
    commands = harness.Commands()
    if kind == "step":
        run = whole_step(name, int(size), int(num_worlds))
    else:
        made = model(name)
        run = pooled(made, SCENES[name], int(size), int(num_worlds)) if kind == "pool" else one_by_one(made, SCENES[name], int(size))
    commands.serve({"run": run})


def compare(repeats: int, **each: list[str]) -> dict[str, list[float]]:
    """Speeds of contestants by name, in turns."""
    with harness.contestants(**{name: partial(harness.Contestant, arguments) for name, arguments in each.items()}) as live:
        for one in live.values():
            one.ask("run")
        return harness.alternate(repeats, {name: partial(one.ask, "run") for name, one in live.items()})


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="blocks of each")
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), choices=SCENES)
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--worlds", nargs="+", type=int, default=list(WORLDS))
    options = parser.parse_args()
    if options.contestant:
        return contestant(*options.contestant)

    scenes = [name for name in options.scenes if model(name) is not None]
    rows = [["images/s", *(f"pool, {n} worlds" for n in options.worlds), "mujoco.Renderer", "ratio"]]
    medians: dict[str, dict[str, float]] = {}
    for name in scenes:
        for size in options.sizes:
            ours = {f"pool_{n}": ["pool", name, str(size), str(n)] for n in options.worlds}
            speeds = compare(options.repeats, **ours, theirs=["default", name, str(size), "1"])
            case = medians[f"{name} {size}x{size}"] = {kind: statistics.median(values) for kind, values in speeds.items()}
            ratio = min(case[kind] for kind in ours) / case["theirs"]
            rows.append([f"{name} {size}x{size}", *(harness.spread(speeds[kind]) for kind in (*ours, "theirs")), f"{ratio:.0f}"])
    harness.table(rows)
    rows, steps = [["whole steps/s", "with images 64x64", "without", "images alone"]], {}
    for name in (name for name in scenes if name != "cheetah"):
        count = str(options.worlds[0])
        kinds = {"images": ("step", "64"), "bare": ("step", "0"), "pool": ("pool", "64")}
        speeds = compare(options.repeats, **{kind: [what, name, size, count] for kind, (what, size) in kinds.items()})
        steps[name] = {kind: statistics.median(values) for kind, values in speeds.items()}
        rows.append([f"{name}, {count} worlds", *(harness.spread(values) for values in speeds.values())])
    harness.table(rows)
    worst = min(medians, key=lambda case: min(v for k, v in medians[case].items() if k != "theirs") / medians[case]["theirs"])
    ours_worst = min(v for k, v in medians[worst].items() if k != "theirs")
    harness.report(
        "pixels",
        ratio=ours_worst / medians[worst]["theirs"],
        ours=ours_worst,
        theirs=medians[worst]["theirs"],
        unit="images/s",
        case=worst,
        medians=medians,
        whole_steps=steps,
        setup=harness.setup(repeats=options.repeats, scenes=scenes, sizes=options.sizes, worlds=options.worlds),
    )


if __name__ == "__main__":
    main()
