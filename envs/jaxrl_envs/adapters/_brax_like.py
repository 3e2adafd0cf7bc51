"""Environments with brax's interface as `Env`: `reset(rng) -> state`, `step(state, action) -> state`.

Their wrappers for episodes and resets are not used: they lose the final observation. `auto_reset` cuts the episode instead.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops.paths import flatten_names
from jaxrl.types import Array, ArraySpec, Env, EnvSpec, Key, Observation, PyTree, TimeStep
from jaxrl_envs.physics._engine import engine

Fields = dict[str, Array]  # what a randomisation function changes of a model, by name
CARRIED_ON = (  # of MJX's data, the state as MuJoCo defines it (mjSTATE_INTEGRATION)
    *("time", "qpos", "qvel", "act", "history", "qacc_warmstart", "plugin_state"),
    *("ctrl", "qfrc_applied", "xfrc_applied", "mocap_pos", "mocap_quat", "userdata"),
)
IMAGES, PRIVILEGED = "pixels/", "privileged_"  # how brax and playground name what is no plain state


class Randomisation(NamedTuple):
    """A model whose fields differ between episodes."""

    nominal: Fields
    sample: Callable[[Key], Fields]
    vary: Callable[[Fields], Any]  # fields -> the environment whose model holds them


def _is_none(x: Any) -> bool:
    return x is None


def _raw(key: Key) -> Array:
    """A key as these environments expect it: bare numbers."""
    return jax.random.key_data(key)


def randomisation(env: Any, attribute: str, function: Callable[..., Any], who: str) -> Randomisation:
    """Of `function(model, keys [N]) -> models, in_axes`, brax's form, for the model that `env` keeps as `attribute`.

    It is called for one world at a time and anew in each episode, on a copy of the environment. Derived constants do not follow.

    Raises:
        ValueError: it changes nothing, or does not return that form.
    """
    model = getattr(env, attribute)
    paths, structure = jax.tree_util.tree_flatten_with_path(model, is_leaf=_is_none)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    own = [leaf for _, leaf in paths]

    def split(key: Key) -> tuple[list[Any], list[Any]]:
        try:
            models, axes = function(model, _raw(key)[None])
        except (TypeError, ValueError) as error:
            raise ValueError(f"the randomisation of {who} must take (model, keys) and return (models, in_axes): {error}") from error
        many, each = (jax.tree.leaves(tree, is_leaf=_is_none) for tree in (models, axes))
        if len(many) != len(own) or len(each) != len(own):
            raise ValueError(f"the randomisation of {who} must return models and in_axes with the {len(own)} leaves of its model")
        return many, each

    _, where = split(jax.random.key(0))
    changed = {name: i for i, name in enumerate(names) if where[i] is not None}
    if not changed:
        raise ValueError(f"the randomisation of {who} changes nothing: every entry of its in_axes is None")

    def sample(key: Key) -> Fields:
        with jax.numpy_rank_promotion("allow"):
            many, _ = split(key)
        return {name: _strong(jnp.take(many[i], 0, axis=where[i])) for name, i in changed.items()}

    def vary(fields: Fields) -> Any:
        leaves = [fields.get(name, leaf) for name, leaf in zip(names, own, strict=True)]
        varied = copy.copy(env)  # the environment itself stays as it is, whatever is traced
        setattr(varied, attribute, jax.tree.unflatten(structure, leaves))
        return varied

    return Randomisation({name: _strong(own[i]) for name, i in changed.items()}, sample, vary)


def _strong(tree: PyTree) -> PyTree:
    """Arrays whose types are not weak, so that a state fits the program compiled for another."""

    def leaf(x: Any) -> Array:
        array = jnp.asarray(x)
        return array if jnp.issubdtype(array.dtype, jax.dtypes.extended) else jax.lax.convert_element_type(array, array.dtype)

    return jax.tree.map(leaf, tree)


def _group(name: str) -> str:
    if name.startswith(IMAGES):
        return f"image/{name.removeprefix(IMAGES)}"
    if name.startswith(PRIVILEGED):
        return f"privileged/{name.removeprefix(PRIVILEGED)}"
    return f"state/{name}"


def _groups(observation: Any) -> Observation:
    """An array becomes `state/observation`; the parts of a dict keep their names within `state/`, `privileged/` or `image/`."""
    if isinstance(observation, jax.Array):
        return {"state/observation": observation}
    return {_group(name): part for name, part in flatten_names(dict(observation)).items()}


def _vital(state: Any) -> PyTree:
    """Without what MJX computes anew in each step: a hundred times as many numbers."""

    def part(x: Any) -> Any:
        return [getattr(x, name) for name in CARRIED_ON] if isinstance(x, engine.Data) else x

    return jax.tree.map(part, state, is_leaf=lambda x: isinstance(x, engine.Data))


def _shapes(state: Any) -> dict[str, str]:
    return {name: f"{x.dtype}{list(x.shape)}" for name, x in flatten_names(state).items()}


def _check(who: str, first: Any, later: Any) -> None:
    """Raises ValueError where a step changes the state's structure, or a metric is no scalar."""
    before, after = _shapes(first), _shapes(later)
    changed = [f"{n}: {before.get(n, 'absent')} -> {after.get(n, 'absent')}" for n in before | after if before.get(n) != after.get(n)]
    if changed:
        raise ValueError(f"{who}: a step changes the structure of the state, so it cannot be scanned:\n  " + "\n  ".join(changed))
    odd = [name for name, value in first.metrics.items() if value.shape]
    if odd:
        raise ValueError(f"{who}: metrics are scalars, but {', '.join(odd)} are not")


def brax_like(
    env: Any, name: str, episode_length: int, dt: float, randomised: Randomisation | None = None, render: Callable[..., Any] | None = None
) -> Env:
    """`env` as an `Env`; actions are clipped to [-1, 1], as their trainers send them.

    `done` is a termination. Metrics keep their names. Where the state's `info` holds an `rng`, each episode gets one of its own, so that
    two episodes from one start of the pool do not meet the same noise. Physics parameters are an empty dict unless `randomised` is given.

    Raises:
        ValueError: a step changes the structure of the state, or a metric is no scalar.
    """

    def of(parameters: Fields) -> Any:
        return env if randomised is None else randomised.vary(parameters)

    def begin(key: Key, parameters: Fields) -> Any:
        with jax.numpy_rank_promotion("allow"):
            return _strong(of(parameters).reset(_raw(key)))

    def advance(state: Any, action: Array, parameters: Fields) -> Any:
        own = jax.tree.map(lambda x: x, state)  # they write into the dicts of the state they are given
        with jax.numpy_rank_promotion("allow"):
            return _strong(of(parameters).step(own, jnp.clip(action, -1.0, 1.0)))

    nominal: Fields = {} if randomised is None else randomised.nominal
    first = jax.eval_shape(begin, jax.random.key(0), nominal)
    _check(name, first, jax.eval_shape(advance, first, jax.ShapeDtypeStruct((env.action_size,), "float32"), nominal))

    def reset(key: Key, parameters: Fields) -> tuple[Any, Observation]:
        state = begin(key, parameters)
        return state, _groups(state.obs)

    def restart(state: Any, parameters: Fields, key: Key) -> tuple[Any, Observation]:
        del parameters
        if "rng" in state.info:
            fresh = key if jnp.issubdtype(state.info["rng"].dtype, jax.dtypes.prng_key) else _raw(key)
            state = state.replace(info=state.info | {"rng": fresh})
        return state, _groups(state.obs)

    def step(state: Any, action: Array, parameters: Fields, key: Key) -> tuple[Any, TimeStep]:
        del key
        later = advance(state, action, parameters)
        metrics = {name: value.astype(jnp.float32) for name, value in later.metrics.items()}
        reward, discount = later.reward.astype(jnp.float32), 1.0 - later.done.astype(jnp.float32)
        return later, TimeStep(_groups(later.obs), reward, discount, jnp.zeros(()), metrics)

    shown = jax.eval_shape(lambda: _groups(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first.obs)))
    spec = EnvSpec(
        name=name,
        observation={group: ArraySpec(part.shape, str(part.dtype)) for group, part in shown.items()},
        action=ArraySpec((env.action_size,), low=-1.0, high=1.0),
        episode_length=episode_length,
        dt=dt,
        metrics=tuple(first.metrics),
    )
    sample = (lambda key: {}) if randomised is None else randomised.sample
    return Env(spec, reset, step, restart, nominal, sample, render, vital=_vital)
