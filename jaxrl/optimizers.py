"""Optax chains from a config: clip, the named optimizer with its schedule and decay mask, rates of parameter groups."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import optax

from jaxrl.ops.paths import check_patterns, map_with_path, matching
from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Params, PyTree, TrainState


@dataclass(frozen=True)
class Config:
    """`name` and `options` are those of optax: "adam", "adamw", "sgd", ... and its keyword arguments.

    `learning_rate` is the peak; "warmup_cosine" and "warmup_linear" climb to it over `warmup_steps` and fall to `end_fraction` of it
    at `decay_steps`, counted from the start. `max_gradient_norm` 0 does not clip. `undecayed` and `rates` hold regular expressions over
    parameter paths: what the weight decay spares, and factors on the learning rate, of which the first that matches counts.
    """

    name: str = "adam"
    learning_rate: float = 3e-4
    schedule: Literal["constant", "warmup_cosine", "warmup_linear"] = "constant"
    warmup_steps: int = 0
    decay_steps: int = 0
    end_fraction: float = 0.0
    max_gradient_norm: float = 0.0
    options: Mapping[str, float] = field(default_factory=dict)
    undecayed: tuple[str, ...] = (r"(^|/)(bias|scale)$",)
    rates: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in _names():
            raise ValueError(f"optax has no optimizer {self.name!r}; {suggestion(self.name, _names())}")
        arguments = inspect.signature(getattr(optax, self.name)).parameters
        for option in self.options:
            if option not in arguments:
                raise ValueError(f"optax.{self.name} has no option {option!r}; {suggestion(option, list(arguments))}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, but must be above 0")
        if self.max_gradient_norm < 0:
            raise ValueError(f"max_gradient_norm is {self.max_gradient_norm}, but must be 0 (do not clip) or above")
        if self.schedule != "constant" and not 0 <= self.warmup_steps < self.decay_steps:
            raise ValueError(
                f"the schedule {self.schedule} needs 0 <= warmup_steps < decay_steps, got {self.warmup_steps} and {self.decay_steps}"
            )


def _names() -> list[str]:
    functions = inspect.getmembers(optax, inspect.isfunction)
    public = {name: function for name, function in functions if not name.startswith(("_", "scale_by"))}
    return [name for name, function in public.items() if "learning_rate" in inspect.signature(function).parameters]


def schedule(config: Config) -> optax.Schedule:
    """The learning rate by update, a function of the number of updates made."""
    if config.schedule == "constant":
        return optax.constant_schedule(config.learning_rate)
    end = config.end_fraction * config.learning_rate
    if config.schedule == "warmup_linear":
        climb = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
        fall = optax.linear_schedule(config.learning_rate, end, config.decay_steps - config.warmup_steps)
        return optax.join_schedules([climb, fall], [config.warmup_steps])
    return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, config.warmup_steps, config.decay_steps, end)


def _scale_groups(rates: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiplies each update by the rate of its parameter's group."""

    def init(params: Params) -> PyTree:
        check_patterns(tuple(rates), params, "rates")
        return optax.EmptyState()

    def update(updates: PyTree, state: PyTree, params: Params | None = None) -> tuple[PyTree, PyTree]:
        del params

        def scale(path: str, x: Any) -> Any:
            return x * next((rate for pattern, rate in rates.items() if re.search(pattern, path)), 1.0)

        return map_with_path(scale, updates), state

    return optax.GradientTransformation(init, update)


def optimizer(config: Config) -> optax.GradientTransformation:
    """Clip by the global norm, then `optax.<name>` at the schedule's rate, then the factors of the groups.

    Raises:
        ValueError: at `init`, where a pattern of `rates` matches no parameter.
    """
    make = getattr(optax, config.name)
    options: dict[str, Any] = dict(config.options)
    if "mask" in inspect.signature(make).parameters:
        # A bias or a norm's scale pulled towards zero changes the function, not its smoothness.
        options["mask"] = lambda params: map_with_path(lambda _, spared: not spared, matching(config.undecayed, params))
    links = [make(schedule(config), **options)]
    if config.max_gradient_norm:
        links.insert(0, optax.clip_by_global_norm(config.max_gradient_norm))
    if config.rates:
        links.append(_scale_groups(config.rates))
    return optax.chain(*links)


class Descent(NamedTuple):
    """How one part of the parameters learns."""

    optimizer: optax.GradientTransformation
    project: Callable[[Params], Params] = lambda params: params  # after each step, see `StatefulNetwork`


def descend(descents: Mapping[str, Descent], state: TrainState, part: str, gradient: PyTree) -> TrainState:
    """One step of `params[part]`, whose optimizer keeps `opt_state[part]`."""
    own = descents[part]
    steps, opt_state = own.optimizer.update(gradient, state.opt_state[part], state.params[part])
    params = own.project(optax.apply_updates(state.params[part], steps))
    return state._replace(params=state.params | {part: params}, opt_state=state.opt_state | {part: opt_state})
