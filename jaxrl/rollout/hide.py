"""Environments that show less to the policy, for tasks that need a memory."""

from collections.abc import Callable

from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Array, Env, Key, Observation, Params, PyTree, Spec, TimeStep


def observed_as(env: Env, spec: Spec, observe: Callable[[Observation], Observation]) -> Env:
    """`env` that shows `observe` of its observations, which are then those of `spec`."""

    def reset(key: Key, parameters: Params) -> tuple[PyTree, Observation]:
        state, observation = env.reset(key, parameters)
        return state, observe(observation)

    def restart(state: PyTree, parameters: Params, key: Key) -> tuple[PyTree, Observation]:
        state, observation = env.restart(state, parameters, key)
        return state, observe(observation)

    def step(state: PyTree, action: Array, parameters: Params, key: Key) -> tuple[PyTree, TimeStep]:
        state, now = env.step(state, action, parameters, key)
        return state, now._replace(observation=observe(now.observation))

    return env._replace(spec=env.spec._replace(observation=spec), reset=reset, restart=restart, step=step)


def hide(env: Env, names: tuple[str, ...]) -> Env:
    """`env` in which each named `state/<group>` is `privileged/<group>`: a critic may still see it, a policy may not.

    Raises:
        ValueError: there is no such state group, or a privileged one of that name is there already.
    """
    shown = env.spec.observation
    public = [name for name in shown if name.startswith("state/")]
    renamed = {name: f"privileged/{name.removeprefix('state/')}" for name in names}
    for name, other in renamed.items():
        if name not in public:
            raise ValueError(f"{env.spec.name} has no state group {name} to hide; {suggestion(name, public)}")
        if other in shown:
            raise ValueError(f"{env.spec.name} cannot hide {name}: it has a group {other} already")

    def observe(observation: Observation) -> Observation:
        return {renamed.get(name, name): x for name, x in observation.items()}

    if env.mirror is not None:
        env = env._replace(mirror=env.mirror._replace(observation={renamed.get(n, n): part for n, part in env.mirror.observation.items()}))
    return observed_as(env, {renamed.get(name, name): part for name, part in shown.items()}, observe)
