"""Control steps that share one action, for tasks that never terminate."""

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Env, Key, Params, PyTree, TimeStep


def check(times: int, steps: int) -> None:
    """Raises ValueError where an episode of `steps` control steps cannot be cut into actions of `times` steps."""
    if times < 1 or steps % times:
        raise ValueError(f"action_repeat is {times}, but must divide the {steps} control steps of an episode")


def repeat_action(env: Env, times: int) -> Env:
    """`env` with `times` of its steps under one action: rewards are summed, metrics averaged, the rest is that of the last step."""
    if times == 1:
        return env

    def step(state: PyTree, action: Array, parameters: Params, key: Key) -> tuple[PyTree, TimeStep]:
        def once(now: PyTree, index: Array) -> tuple[PyTree, TimeStep]:
            return env.step(now, action, parameters, jax.random.fold_in(key, index))

        later, seen = jax.lax.scan(once, state, jnp.arange(times))
        last: TimeStep = jax.tree.map(lambda x: x[-1], seen)
        return later, last._replace(reward=seen.reward.sum(), metrics={name: values.mean() for name, values in seen.metrics.items()})

    spec = env.spec._replace(episode_length=env.spec.episode_length // times, dt=env.spec.dt * times)
    return env._replace(spec=spec, step=step)
