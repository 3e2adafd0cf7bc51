"""brax 0.14.2's PPO with its MJX backend, as a contestant of `ppo_vs_brax.py`. The only module that imports brax.

Its trainer calls `jax.device_put_replicated`, which jax 0.10 no longer has: that one name is put back here, doing what it did. Without the
XLA flags of `jaxrl_envs.xla_flags` its ant can hang for ever on a CPU, so the process gets them; they make it faster on half-cheetah too.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import harness


def restore_removed_name() -> None:
    """`jax.device_put_replicated`: a tree with a new leading axis, one copy on each device."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    if hasattr(jax, "device_put_replicated"):
        return

    def device_put_replicated(tree: Any, devices: Sequence[Any]) -> Any:
        sharding = NamedSharding(Mesh(np.array(devices), ("devices",)), PartitionSpec("devices"))
        stack = lambda x: jnp.broadcast_to(jnp.asarray(x)[None], (len(devices), *jnp.shape(x)))  # noqa: E731
        return jax.tree.map(lambda x: jax.device_put(stack(x), sharding), tree)

    jax.device_put_replicated = device_put_replicated  # type: ignore[attr-defined]


def environment(brax_name: str) -> Any:
    from brax import envs

    return envs.get_environment(brax_name, backend="mjx")


def _networks(settings: Any) -> Callable[..., Any]:
    from brax.training.agents.ppo import networks

    hidden = {"policy_hidden_layer_sizes": settings.actor_hidden, "value_hidden_layer_sizes": settings.critic_hidden}
    return functools.partial(networks.make_ppo_networks, **hidden)


def rollout(settings: Any, brax_name: str, length: int) -> Callable[[], float]:
    """Seconds of one unroll as its trainer makes them: all that it records, with its wrappers for episodes and resets."""
    import jax
    from brax import envs
    from brax.training import acting
    from brax.training.acme import running_statistics, specs
    from brax.training.agents.ppo import networks

    env = envs.training.wrap(environment(brax_name), episode_length=settings.episode_length)
    made = _networks(settings)(env.observation_size, env.action_size, preprocess_observations_fn=running_statistics.normalize)
    normaliser = running_statistics.init_state(specs.Array((env.observation_size,), jax.numpy.dtype("float32")))
    policy_of = networks.make_inference_fn(made)
    params = (normaliser, made.policy_network.init(jax.random.PRNGKey(0)))
    extra = ("truncation", "episode_metrics", "episode_done")

    @functools.partial(jax.jit, donate_argnums=0)
    def unroll(state: Any, params: Any, key: Any) -> Any:
        return acting.generate_unroll(env, state, policy_of(params), key, length, extra_fields=extra)

    state = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(0), settings.num_worlds))
    state = jax.tree.map(lambda x: x.copy(), state)  # some leaves share a buffer, which cannot be donated twice
    step = 0

    def run() -> float:
        nonlocal state, step
        step += 1
        seconds, (state, _) = harness.timed(unroll, state, params, jax.random.PRNGKey(step))
        return seconds

    return run


def physics(settings: Any, brax_name: str, length: int) -> Callable[[], float]:
    """Seconds of the physics of one unroll, nothing else, under uniform random actions."""
    import jax

    env = environment(brax_name)
    actions = jax.random.uniform(jax.random.PRNGKey(1), (length, settings.num_worlds, env.action_size), minval=-1.0, maxval=1.0)

    @jax.jit
    def scan(state: Any, actions: Any) -> Any:
        return jax.lax.scan(lambda s, a: (jax.vmap(env.pipeline_step)(s, a), None), state, actions)[0]

    keys = jax.random.split(jax.random.PRNGKey(0), settings.num_worlds)
    state = jax.jit(jax.vmap(lambda key: env.reset(key).pipeline_state))(keys)

    def run() -> float:
        nonlocal state
        seconds, state = harness.timed(scan, state, actions)
        return seconds

    return run


def train(
    settings: Any, environment: Any, updates: int, after_block: Callable[[float], None], wrap: Callable[..., Any] | None = None
) -> None:
    """Runs brax's trainer in a brax environment, or in another that `wrap` gives its wrappers, until the process ends.

    `after_block` gets the seconds of each `updates` updates by brax's own clock.
    """
    from brax.training.agents.ppo import train as ppo

    restore_removed_name()
    batch = settings.num_worlds * settings.unroll_length
    blocks = 10_000

    ppo.train(
        environment,
        num_timesteps=batch * updates * blocks,
        num_envs=settings.num_worlds,
        episode_length=settings.episode_length,
        unroll_length=settings.unroll_length,
        batch_size=settings.num_worlds // settings.num_minibatches,
        num_minibatches=settings.num_minibatches,
        num_updates_per_batch=settings.num_epochs,
        learning_rate=settings.learning_rate,
        entropy_cost=settings.entropy_weight,
        discounting=settings.gamma,
        gae_lambda=settings.gae_lambda,
        clipping_epsilon=settings.clip,
        vf_loss_coefficient=settings.value_weight,
        max_grad_norm=settings.max_gradient_norm,
        normalize_observations=True,
        network_factory=_networks(settings),
        wrap_env_fn=wrap,
        num_evals=blocks + 1,  # one "evaluation" per block: its trainer then calls back; run_evals=False leaves the evaluation out
        run_evals=False,
        progress_fn=lambda step, metrics: after_block(batch * updates / metrics["training/sps"]),
    )


def check(name: str, steps: int = 20, num_worlds: int = 16) -> dict[str, float]:
    """Largest differences between our environment on the `mjx` backend and brax's over steps that start from brax's state.

    `share` is that of the observation's entries which differ by more than 1e-4: rounding can end a contact's iterations one earlier.
    """
    import brax_tasks
    import jax
    import numpy as np

    from jaxrl_envs.physics import PhysicsState

    theirs, ours = environment(brax_tasks.TASKS[name].brax_name), brax_tasks.brax_task(name, "mjx")
    keys = jax.random.split(jax.random.key(0), num_worlds)
    observe = lambda groups: np.concatenate([groups["state/position"], groups["state/velocity"]], -1)  # noqa: E731
    begin = jax.jit(jax.vmap(theirs.reset))(jax.random.key_data(keys))
    state, observation = jax.jit(jax.vmap(ours.reset, (0, None)))(keys, ours.nominal)
    at_start = (observe(observation) - begin.obs, state.sensordata - begin.pipeline_state.x.pos[:, 0])
    worst = {"reset": max(float(np.abs(d).max()) for d in at_start), "reward": 0.0, "discount": 0.0}
    their_step, our_step = jax.jit(jax.vmap(theirs.step)), jax.jit(jax.vmap(ours.step, (0, 0, None, None)))
    now, apart = begin, []
    for i in range(steps):
        p = now.pipeline_state
        same = PhysicsState(p.qpos, p.qvel, p.act, p.qacc_warmstart, p.time, p.x.pos[:, 0])
        action = jax.random.uniform(jax.random.key(i), (num_worlds, *ours.spec.action.shape), minval=-1.0, maxval=1.0)
        now = their_step(now, action)
        _, step = our_step(same, action, ours.nominal, jax.random.key(0))
        apart.append(np.abs(observe(step.observation) - now.obs))
        worst["reward"] = max(worst["reward"], float(np.abs(step.reward - now.reward).max()))
        worst["discount"] = max(worst["discount"], float(np.abs(1.0 - step.discount - now.done).max()))
    return worst | {"observation": float(np.max(apart)), "share": float((np.array(apart) > 1e-4).mean())}
