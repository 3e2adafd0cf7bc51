"""Specs: of batches, compared with each other, and as JSON, as they travel with checkpoints and recordings."""

import json
from dataclasses import asdict, replace
from typing import Any

import jax

from jaxrl.types import ArraySpec, EnvSpec, PolicySpec, Replayed, Spec, Transition

TABLES = ("observation", "extras")  # the fields of a policy's spec that hold arrays by name


def with_axes(spec: Spec, axes: tuple[int | str, ...], prefix: str = "") -> dict[str, ArraySpec]:
    """Every array of `spec` with `axes` in front of its own, and `prefix` in front of its name."""
    return {f"{prefix}{name}": replace(part, shape=(*axes, *part.shape)) for name, part in spec.items()}


def choice(number: int, names: tuple[str, ...] = ()) -> ArraySpec:
    """A discrete action: one of `number` choices, an int32 from 0 on. `names` are those of the choices."""
    return ArraySpec((), "int32", names=names, low=0, high=number - 1)


def num_choices(action: ArraySpec) -> int:
    """Of a discrete action; 0 where it is continuous."""
    one = action.shape == () and action.dtype == "int32" and action.low == 0
    return action.high + 1 if one and isinstance(action.high, int) else 0


def check_discrete(action: ArraySpec, needs: str, offers: str) -> None:
    """Raises ValueError where an action is continuous. `needs` and `offers` are the words for both sides, such as "dqn" and "Ant-v5"."""
    if not num_choices(action):
        raise ValueError(f"{needs} needs discrete actions, but those of {offers} are {_told(action)}")


def check_continuous(action: ArraySpec, needs: str, offers: str) -> None:
    """Raises ValueError where an action is no vector of floats; the words as for `check_discrete`."""
    if not action.dtype.startswith("float") or len(action.shape) != 1:
        raise ValueError(f"{needs} needs continuous actions, vectors of float32, but those of {offers} are {_told(action)}")


def _told(action: ArraySpec) -> str:
    if number := num_choices(action):
        return f"discrete, one of {number} choices"
    return f"of the shape {action.shape} and the type {action.dtype}"


def transition_spec(env: EnvSpec, extras: Spec, axes: tuple[int | str, int | str] = ("time", "world")) -> dict[str, ArraySpec]:
    """Of a batch of `Transition`s `[time, world, ...]`; `extras` is what the policy returns beside the action, per row."""
    fields = {"action": env.action} | {name: ArraySpec(()) for name in ("reward", "discount", "truncation")}
    for prefix, part in (("extras/", extras), ("observation/", env.observation), ("next_observation/", env.observation)):
        fields |= with_axes(part, (), prefix)
    return with_axes(fields, axes)


def replayed_spec(env: EnvSpec, extras: Spec, n_step: int | str = "n_step") -> dict[str, ArraySpec]:
    """Of a batch of `Replayed` steps `[updates, batch, ...]`; `extras` as for `transition_spec`."""
    fields = {"action": env.action, "reward": ArraySpec((n_step,)), "steps": ArraySpec((), "int32")}
    fields |= {name: ArraySpec(()) for name in ("discount", "weight")}
    for prefix, part in (("extras/", extras), ("observation/", env.observation), ("next_observation/", env.observation)):
        fields |= with_axes(part, (), prefix)
    return with_axes(fields, ("updates", "batch"))


def policy_spec(env: EnvSpec, extras: Spec | None = None) -> PolicySpec:
    """Of a policy that acts in such an environment, one action at a time, and sees all of it but what is privileged."""
    public = {name: part for name, part in env.observation.items() if not name.startswith("privileged/")}
    return PolicySpec(public, env.action, rate=1.0 / env.dt if env.dt else 0.0, extras=extras or {})


def batch_shapes(spec: Spec) -> Transition | Replayed | None:
    """The batch of such a spec, as shapes to trace with; None where it is not made of transitions or replayed steps of known number."""
    fields: dict[str, Any] = {"extras": {}}
    for name, part in spec.items():
        if not all(isinstance(length, int) for length in part.shape):
            return None
        field, _, rest = name.partition("/")
        shape = jax.ShapeDtypeStruct(part.shape, part.dtype)
        if rest:
            fields.setdefault(field, {})[rest] = shape
        else:
            fields[field] = shape
    for kind in (Transition, Replayed):
        if fields.keys() == set(kind._fields):
            return kind(**fields)
    return None


def check_spec(needed: Spec, offered: Spec, needs: str, offers: str) -> None:
    """Raises ValueError that names every array of `needed` which `offered` lacks or has in another shape, type, unit or order.

    `needs` and `offers` are the words for both sides, such as "algorithm ppo" and "source rollout".
    """
    faults: list[str] = []
    axes: dict[str, int | str] = {}
    for name, need in needed.items():
        offer = offered.get(name)
        if offer is None:
            faults.append(f"{name}: missing; offered are {', '.join(sorted(offered)) or 'none'}")
            continue
        bound = [axes.setdefault(n, o) if isinstance(n, str) else n for n, o in zip(need.shape, offer.shape, strict=False)]
        if len(need.shape) != len(offer.shape) or any(b != o for b, o in zip(bound, offer.shape, strict=True)):
            faults.append(f"{name}: needs shape {need.shape}, got {offer.shape}")
        if need.dtype != offer.dtype:
            faults.append(f"{name}: needs {need.dtype}, got {offer.dtype}")
        if (wanted := num_choices(need)) and (found := num_choices(offer)) and wanted != found:
            faults.append(f"{name}: needs one of {wanted} choices, got one of {found}")
        if need.names and offer.names and need.names != offer.names:
            faults.append(f"{name}: needs the dimensions {need.names}, got {offer.names}")
        if need.unit and offer.unit and need.unit != offer.unit:
            faults.append(f"{name}: needs the unit {need.unit}, got {offer.unit}")
    if faults:
        raise ValueError(f"{needs} does not fit {offers}:\n  " + "\n  ".join(faults))


def to_json(spec: PolicySpec) -> str:
    """The spec as one line of JSON."""
    tables = {field: {name: asdict(part) for name, part in getattr(spec, field).items()} for field in TABLES}
    return json.dumps(spec._asdict() | tables | {"action": asdict(spec.action)})


def from_json(text: str) -> PolicySpec:
    """The inverse of `to_json`.

    Raises:
        ValueError: the text is no spec.
    """
    try:
        fields = json.loads(text)
        tables = {field: {name: _array_spec(part) for name, part in fields[field].items()} for field in TABLES}
        return PolicySpec(**fields | tables | {"action": _array_spec(fields["action"])})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"this is no policy spec ({type(error).__name__}: {error}): {text[:200]}") from error


def _array_spec(fields: dict[str, Any]) -> ArraySpec:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return ArraySpec(**values)
