"""SAC on brax's ant: our trainer with native physics against brax 0.14.2's with its MJX backend, at 1, 128 and 1024 worlds.

    python experiments/benchmarks/sac_vs_brax.py            (needs brax: pip install brax==0.14.2)

Two layers of 256, batches of 256, one gradient update after each step of all worlds, 100,000 steps of memory, for both. The environment is
that of ppo_vs_brax.py, whose `--check` compares it with brax's. The whole loop is `jaxrl.training.fit`, by the wall clock, against
`brax.training.agents.sac.train`, by its own clock (`training/sps`), which is kinder to it. Gradient updates alone are ours, by
`Algorithm.update`, against brax's losses and gradient functions put together as in its trainer, each on one batch.

Contestants live in processes of their own and take turns, brax under the XLA flags that MJX needs on a CPU. `ratio` is the whole loop at
128 worlds. Expected on two cores: at least 1.5, gradient updates at least 1.0.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import harness

HIDDEN, BATCH, CAPACITY, GAMMA, TAU, RATE = 256, 256, 100_000, 0.99, 0.005, 3e-4
EPISODE, FIRST = 1000, 2048  # steps; of the memory before learning begins
WORLDS = (1, 128, 1024)
STEPS = {1: 300, 128: 100, 1024: 30}  # of all worlds in a block
UPDATES = 100  # in a block of gradient updates alone


def our_parts(num_worlds: int) -> Any:
    """Algorithm and source of our trainer."""
    import brax_tasks

    from jaxrl import optimizers
    from jaxrl.algorithms import sac
    from jaxrl.curricula.static import fixed
    from jaxrl.networks import actor_q
    from jaxrl.networks._torsos import Torso
    from jaxrl.replay import replay
    from jaxrl.rollout import rollout

    env = brax_tasks.brax_task("ant", "native")
    rate = optimizers.Config(learning_rate=RATE)
    networks = actor_q.actor_q(actor_q.Config(Torso(width=HIDDEN), Torso(width=HIDDEN)), env.spec)
    config = sac.Config(rate, rate, gamma=GAMMA, tau=TAU, target_entropy=-0.5, normalise_observations=True)
    algorithm = sac.sac(config, env.spec, networks)
    collector = rollout.rollout(rollout.Config(num_worlds, 1, 64), env, fixed(env.sample), algorithm.explore)
    memory = replay.Config(capacity=CAPACITY, batch_size=BATCH, initial_steps=FIRST)
    return algorithm, replay.replay(memory, collector, num_worlds)


def our_loop(num_worlds: int, steps: int, after_block: Callable[[float], None]) -> None:
    """Runs our trainer until the process ends."""
    from jaxrl.training import fit
    from jaxrl.training.callbacks import Callback

    algorithm, source = our_parts(num_worlds)
    began = time.perf_counter()

    def write(report: Any) -> None:
        nonlocal began
        after_block(time.perf_counter() - began)
        began = time.perf_counter()

    config = fit.Config(total_updates=10_000 * steps, updates_per_call=steps)
    fit.fit(config, algorithm, source, fit.Extras(callback=Callback(write, lambda: None)))


def our_updates() -> Callable[[], float]:
    """Seconds of `UPDATES` gradient updates."""
    import jax

    algorithm, source = our_parts(128)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    behaviour = algorithm.behaviour(state)
    _, batch = jax.jit(source.next)(jax.jit(source.init)(jax.random.key(1), behaviour), behaviour, jax.random.key(2))

    @partial(jax.jit, donate_argnums=0)
    def block(state: Any, batch: Any, key: Any) -> Any:
        return jax.lax.scan(lambda s, k: (algorithm.update(s, batch, k)[0], None), state, jax.random.split(key, UPDATES))[0]

    def run() -> float:
        nonlocal state
        seconds, state = harness.timed(block, state, batch, jax.random.key(3))
        return seconds

    return run


def their_loop(num_worlds: int, steps: int, after_block: Callable[[float], None]) -> None:
    """Runs brax's trainer until the process ends."""
    import brax_peer
    from brax.training.agents.sac import train

    brax_peer.restore_removed_name()
    blocks = 1000
    train.train(
        brax_peer.environment("ant"),
        num_timesteps=FIRST + num_worlds * steps * blocks,
        episode_length=EPISODE,
        num_envs=num_worlds,
        num_eval_envs=1,
        learning_rate=RATE,
        discounting=GAMMA,
        batch_size=BATCH,
        num_evals=blocks + 1,
        normalize_observations=True,
        tau=TAU,
        min_replay_size=FIRST,
        max_replay_size=CAPACITY,
        grad_updates_per_step=1,
        progress_fn=lambda step, m: after_block(num_worlds * steps / m["training/sps"]) if "training/sps" in m else None,
    )


def their_updates() -> Callable[[], float]:
    """Seconds of `UPDATES` gradient updates with brax's losses, in the order of its trainer."""
    import brax_peer
    import jax
    import jax.numpy as jnp
    import optax
    from brax.training import gradients, types
    from brax.training.acme import running_statistics, specs
    from brax.training.agents.sac import losses, networks

    env = brax_peer.environment("ant")
    size, actions = env.observation_size, env.action_size
    made = networks.make_sac_networks(size, actions, running_statistics.normalize, (HIDDEN, HIDDEN))
    functions = losses.make_losses(made, 1.0, GAMMA, actions)
    adams = (optax.adam(3e-4), optax.adam(RATE), optax.adam(RATE))
    alpha_update, critic_update, actor_update = (
        gradients.gradient_update_fn(loss, adam, pmap_axis_name=None) for loss, adam in zip(functions, adams, strict=True)
    )
    normaliser = running_statistics.init_state(specs.Array((size,), jnp.dtype("float32")))
    keys = jax.random.split(jax.random.PRNGKey(0), 4)
    params = (jnp.zeros(()), made.q_network.init(keys[0]), made.policy_network.init(keys[1]))
    state = (*params, jax.tree.map(jnp.copy, params[1]), *(adam.init(p) for adam, p in zip(adams, params, strict=True)))
    observation = jax.random.normal(keys[2], (BATCH, size))
    batch = types.Transition(
        observation,
        jax.random.uniform(keys[3], (BATCH, actions), minval=-1.0, maxval=1.0),
        jnp.ones(BATCH),
        jnp.ones(BATCH),
        observation + 0.1,
        {"state_extras": {"truncation": jnp.zeros(BATCH)}, "policy_extras": {}},
    )

    def step(state: Any, key: Any) -> Any:
        log_alpha, critic, actor, target, alpha_state, critic_state, actor_state = state
        first, second, third = jax.random.split(key, 3)
        _, new_alpha, alpha_state = alpha_update(log_alpha, actor, normaliser, batch, first, optimizer_state=alpha_state)
        alpha = jnp.exp(log_alpha)
        _, new_critic, critic_state = critic_update(critic, actor, normaliser, target, alpha, batch, second, optimizer_state=critic_state)
        _, new_actor, actor_state = actor_update(actor, normaliser, critic, alpha, batch, third, optimizer_state=actor_state)
        target = jax.tree.map(lambda x, y: x * (1 - TAU) + y * TAU, target, new_critic)
        return (new_alpha, new_critic, new_actor, target, alpha_state, critic_state, actor_state), None

    block = jax.jit(lambda state, key: jax.lax.scan(step, state, jax.random.split(key, UPDATES))[0], donate_argnums=0)

    def run() -> float:
        nonlocal state
        seconds, state = harness.timed(block, state, jax.random.PRNGKey(1))
        return seconds

    return run


def contestant(kind: str, what: str) -> None:
    """Answers `measure` with the seconds of one block, for ever."""
    commands = harness.Commands()
    loop, updates = (our_loop, our_updates) if kind == "native" else (their_loop, their_updates)
    made: list[Callable[[], float]] = []

    def measure() -> float:
        if not made:
            made.append(updates())
        return made[0]()

    def after_block(seconds: float) -> None:
        commands.answer(seconds)
        commands.receive()

    if what == "updates":
        commands.serve({"measure": measure})
    num_worlds = int(what)
    commands.receive()
    loop(num_worlds, STEPS[num_worlds], after_block)


def start(kind: str, what: str) -> harness.Contestant:
    from jaxrl_envs.xla_flags import xla_flags

    return harness.Contestant([kind, what], {} if kind == "native" else {"XLA_FLAGS": xla_flags()})


def speeds(what: str, repeats: int, amount: int) -> dict[str, list[float]]:
    """Of both, `amount` over the seconds of each block."""
    with harness.contestants(**{kind: partial(start, kind, what) for kind in ("native", "brax")}) as live:
        ask = {kind: partial(c.ask, "measure") for kind, c in live.items()}
        for each in ask.values():
            each(), each()  # compile and settle
        return {kind: [amount / s for s in values] for kind, values in harness.alternate(repeats, ask).items()}


def main() -> int:
    parser = harness.parser(__doc__)
    parser.add_argument("--worlds", nargs="+", type=int, default=list(WORLDS), choices=WORLDS)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.contestant:
        contestant(*options.contestant)
    harness.require_brax()
    found = {"gradient updates/s": speeds("updates", options.repeats, UPDATES)}
    for num_worlds in options.worlds:
        found[f"whole loop, {num_worlds} worlds, env steps/s"] = speeds(str(num_worlds), options.repeats, num_worlds * STEPS[num_worlds])
    harness.table([["ant", "native", "brax"], *([what, *(harness.spread(v) for v in by.values())] for what, by in found.items())])
    medians = {what: {kind: statistics.median(values) for kind, values in by.items()} for what, by in found.items()}
    middle = medians.get("whole loop, 128 worlds, env steps/s")
    if middle is None:
        return 0
    harness.report(
        "sac_vs_brax",
        ratio=middle["native"] / middle["brax"],
        ours=middle["native"],
        theirs=middle["brax"],
        unit="env steps/s",
        native_over_brax={what: m["native"] / m["brax"] for what, m in medians.items()},
        setup=harness.setup(batch=BATCH, hidden=HIDDEN, capacity=CAPACITY, repeats=options.repeats),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
