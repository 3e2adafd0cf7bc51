"""Steps drawn per second from a memory on the device, beside brax's UniformSamplingQueue.

    python experiments/benchmarks/replay.py                 (needs brax: pip install "jaxrl[bench]")

Both hold as many steps of the same shapes, and in a scan take in one step of each world, then draw one batch for each of the updates, as
an off-policy run does between its updates; nothing learns. Processes are live side by side and take turns. brax's queue holds flat rows
with both observations of a step; ours holds each observation once and knows which steps follow each other, so returns of three steps are
measured too. brax's queue moves all rows at each insertion once it is full: it is measured half full and full. `ratio` is ours over
theirs half full, for one step; bytes are those of a stored step. Takes about two minutes.
"""

import statistics
import time
from functools import partial
from typing import Any

import harness

WORLDS, UPDATES, BATCH, ROUNDS = 128, 8, 256, 50
OBSERVATION, ACTION = 48, 12


def serve(commands: harness.Commands, call: Any, state: Any, size: int) -> None:
    """Answers each command with the seconds of one call of `ROUNDS` rounds, for ever."""
    import jax

    held = {"state": jax.block_until_ready(call(state)[0])}

    def block() -> float:
        start = time.perf_counter()
        held["state"], total = call(held["state"])
        jax.block_until_ready((held["state"], total))
        return time.perf_counter() - start

    commands.serve({"block": block, "bytes": lambda: size})


def transition(key: Any) -> dict[str, Any]:
    """One step of each world, as random numbers."""
    import jax

    seen = jax.random.normal(key, (WORLDS, OBSERVATION))
    return {"observation": seen, "action": seen[:, :ACTION], "reward": seen[:, 0], "later": seen + 1.0}


def ours(commands: harness.Commands, capacity: int, n_step: int) -> None:
    import jax
    import jax.numpy as jnp

    from jaxrl.replay.replay import Config, replay
    from jaxrl.types import ArraySpec, Source, Transition

    def advance(state: Any, behaviour: Any, key: Any) -> Any:
        new = jax.tree.map(lambda x: x[None], transition(key))
        whole, none = jnp.ones((1, WORLDS)), jnp.zeros((1, WORLDS))
        return state, Transition({"state": new["observation"]}, new["action"], new["reward"], whole, none, {"state": new["later"]}, {})

    axes = ("time", "world")
    spec = {f"{name}/state": ArraySpec((*axes, OBSERVATION)) for name in ("observation", "next_observation")}
    spec |= {name: ArraySpec(axes) for name in ("reward", "discount", "truncation")} | {"action": ArraySpec((*axes, ACTION))}
    collector = Source(spec, lambda key, behaviour: (), advance, steps_per_batch=WORLDS)
    config = Config(capacity, BATCH, UPDATES, n_step, initial_steps=capacity // 2)
    source = replay(config, collector, WORLDS)

    def body(state: Any, key: Any) -> Any:
        state, batch = source.next(state, (), key)
        return state, sum(x.sum() for x in jax.tree.leaves(batch))

    def rounds(held: Any) -> Any:
        key, now = jax.random.split(held[1])
        state, total = jax.lax.scan(body, held[0], jax.random.split(now, ROUNDS))
        return (state, key), total

    held = (jax.jit(source.init)(jax.random.key(0), ()), jax.random.key(1))
    serve(commands, jax.jit(rounds, donate_argnums=0), held, sum(source.allocation.values()) // capacity)


def theirs(commands: harness.Commands, capacity: int, filled: int) -> None:
    import jax
    import jax.numpy as jnp
    from brax.training.replay_buffers import UniformSamplingQueue
    from brax.training.types import Transition

    def steps(key: Any) -> Transition:
        new = transition(key)
        extras = {"state_extras": {"truncation": jnp.zeros(WORLDS)}, "policy_extras": {}}
        return Transition(new["observation"], new["action"], new["reward"], jnp.ones(WORLDS), new["later"], extras)

    one = jax.tree.map(lambda x: x[0], steps(jax.random.key(0)))
    queue = UniformSamplingQueue(capacity, one, BATCH * UPDATES)

    def body(state: Any, key: Any) -> Any:
        state, batch = queue.sample(queue.insert(state, steps(key)))
        return state, sum(x.sum() for x in jax.tree.leaves(batch))

    def rounds(held: Any) -> Any:
        key, now = jax.random.split(held[1])
        state, total = jax.lax.scan(body, held[0], jax.random.split(now, ROUNDS))
        return (state, key), total

    def fill(state: Any) -> Any:
        keys = jax.random.split(jax.random.key(2), filled // WORLDS)
        return jax.lax.scan(lambda state, key: (queue.insert(state, steps(key)), None), state, keys)[0]

    state = jax.jit(fill)(queue.init(jax.random.key(0)))
    serve(commands, jax.jit(rounds, donate_argnums=0), (state, jax.random.key(1)), state.data.nbytes // capacity)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--capacity", type=int, default=2**20, help="steps")
    parser.add_argument("--repeats", type=int, default=8, help="blocks of each")
    options = parser.parse_args()
    if options.contestant:
        kind, capacity, *rest = options.contestant
        if kind == "ours":
            ours(harness.Commands(), int(capacity), int(rest[0]))
        theirs(harness.Commands(), int(capacity), int(rest[0]))
    harness.require_brax()
    capacity = str(options.capacity)
    kinds = {"one": ["ours", capacity, "1"], "three": ["ours", capacity, "3"], "brax": ["theirs", capacity, str(options.capacity // 2)]}
    kinds["full"] = ["theirs", capacity, capacity]
    with harness.contestants(**{name: partial(harness.Contestant, words) for name, words in kinds.items()}) as live:
        sizes = {name: each.ask("bytes") for name, each in live.items()}
        seconds = harness.alternate(options.repeats, {name: partial(each.ask, "block") for name, each in live.items()})
    drawn = ROUNDS * UPDATES * BATCH
    rates = {name: [drawn / s for s in values] for name, values in seconds.items()}
    told = {"one": "ours, 1 step", "three": "ours, 3 steps", "brax": "brax, half full", "full": "brax, full"}
    harness.table(
        [["", "steps drawn per second", "bytes per step"]] + [[told[n], harness.spread(v), str(sizes[n])] for n, v in rates.items()]
    )
    middle = {name: statistics.median(values) for name, values in rates.items()}
    harness.report(
        "replay",
        ratio=middle["one"] / middle["brax"],
        ours=middle["one"],
        theirs=middle["brax"],
        unit="steps drawn/s",
        three_steps=middle["three"],
        theirs_full=middle["full"],
        bytes_per_step={"ours": sizes["one"], "theirs": sizes["brax"]},
        setup=harness.setup(capacity=options.capacity, worlds=WORLDS, updates=UPDATES, batch=BATCH, observation=OBSERVATION, action=ACTION),
    )


if __name__ == "__main__":
    main()
