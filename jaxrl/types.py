"""The contracts: what an algorithm, objective, network, policy, source and environment are.

Each is a NamedTuple of pure functions made by a lower-case factory, the way optax makes optimizers. Nothing here does work.

Axes: rollouts are time-major `[T, B, ...]`, data is batch-first `[B, T, ...]`. SI units, radians, wxyz quaternions.
Observations are flat dicts: `state/<group>`, `image/<camera>`, `task/instruction`, `privileged/<group>`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array  # a typed PRNG key, jax.random.key(seed)
PyTree = Any
Params = PyTree
Observation = dict[str, Array]
Metrics = dict[str, Array]


@dataclass(frozen=True)
class ArraySpec:
    """One named array. An entry of `shape` is a size, or the name of a free axis such as "time"; equal names mean equal sizes.

    A discrete action is an int32 of the shape () from `low` 0 to `high`, the last of its choices.
    """

    shape: tuple[int | str, ...]
    dtype: str = "float32"
    names: tuple[str, ...] = ()  # of the last axis
    unit: str = ""  # of every entry, or one per name separated by commas
    low: float | tuple[float, ...] | None = None
    high: float | tuple[float, ...] | None = None


Spec = Mapping[str, ArraySpec]  # by the flat name of a leaf: "observation/state/joint_position"


class TrainState(NamedTuple):
    """All that training changes. Arrays only: no function, no optimizer, no config, no key."""

    step: Array  # [] int32, number of updates made
    params: Params  # gets gradients and optimizer state
    frozen: Params  # gets neither (frozen backbone, LoRA base, prior policy); may be bf16
    statistics: PyTree  # observation normaliser, batch statistics
    opt_state: PyTree
    extra: PyTree  # the algorithm's own NamedTuple: targets, EMA, temperature, learning rate


class PolicySpec(NamedTuple):
    """What a policy reads and writes; travels with its checkpoint."""

    observation: Spec
    action: ArraySpec  # of one step: [action_dim], or [] int32 where it is one of a number of choices
    horizon: int = 1  # steps in a chunk
    executed_steps: int = 1  # steps executed before the next inference
    rate: float = 0.0  # control rate [Hz]; 0 where time has no unit
    extras: Spec = {}  # what it returns beside the chunk, per row; collectors keep it in `Transition.extras`
    # Of these, scalars named "policy/..." tell how it fares, and evaluations show them.
    mixed: bool = False  # whether a chunk holds what earlier ones said of its steps, too


def _forgets(observation: Observation, carry: PyTree) -> PyTree:
    """The `remember` of policies that look only when they are asked."""
    del observation
    return carry


class Policy(NamedTuple):
    """Observation and carry in, action chunk out. Batched: every array has a leading axis `[B]`, `key` holds one key per row."""

    spec: PolicySpec
    init: Callable[[int], PyTree]  # batch size -> carry (RNN state, history, chunk in flight)
    act: Callable[..., tuple[Array, PyTree, dict[str, Array]]]
    # (params, observation, carry, key [B], context=None) -> chunk [B, horizon, action_dim], carry, extras
    remember: Callable[[Observation, PyTree], PyTree] = _forgets
    # (observation, carry) -> carry: takes in what is seen while a chunk is executed, where `act` is not asked


class Algorithm(NamedTuple):
    """A way of learning, from batches of `batch_spec`."""

    init: Callable[..., TrainState]  # (key, pretrained=None)
    update: Callable[[TrainState, PyTree, Key], tuple[TrainState, Metrics, PyTree]]  # (state, batch, key) -> state, metrics, feedback
    explore: Policy  # used by collectors, with behaviour(state)
    policy: Policy  # used by evaluation and robots, with deployable(state)
    behaviour: Callable[[TrainState], Params]  # live parameters, normaliser, exploration schedule
    deployable: Callable[[TrainState], Params]  # EMA or live parameters and normaliser, nothing else
    batch_spec: Spec


class Objective(NamedTuple):
    """A loss with its sampler. Elements of the loss whose mask is 0 count neither in the loss nor in its gradient."""

    init: Callable[[Key], tuple[Params, PyTree]]  # key -> params, statistics
    loss: Callable[..., tuple[Array, Array, PyTree, Metrics]]
    # (params, statistics, batch, key) -> per-element loss, mask of the same shape, statistics, metrics
    sample: Callable[..., Any]
    # (params, statistics, observation, key [B], context=None) -> chunk [B, horizon, action_dim]; with `spec.extras`, that and these
    spec: PolicySpec
    batch_spec: Spec


class Network(NamedTuple):
    """The plainest network. Others name their parts; all share one parameter tree."""

    init: Callable[[Key], Params]
    apply: Callable[..., Any]  # (params, x, key=None, train=False) -> output


class RecurrentNetwork(NamedTuple):
    """A network with a memory, its carry: it takes in what it sees, then answers from what it remembers and sees.

    Leading axes are free where none are named. A carry belongs to one row, and no row touches another.
    """

    init: Callable[[Key], Params]
    carry: Callable[[int], PyTree]  # batch size -> the carry [B, ...] before an episode's first step, a dict of arrays; () without memory
    remember: Callable[[Params, Any, PyTree], PyTree]  # (params, x, carry) -> carry
    unroll: Callable[[Params, Any, PyTree, Array], PyTree]
    # (params, x [T, B, ...], carry [B, ...], begins [T, B]) -> carry after each step [T, B, ...]; an episode that begins forgets the last
    apply: Callable[[Params, Any, PyTree], Any]  # (params, x, carry that has taken in x) -> output


def _as_it_is(tree: PyTree) -> PyTree:
    """The `project` of networks whose parameters are free, the `vital` part of a state that is checked as a whole."""
    return tree


class StatefulNetwork(NamedTuple):
    """A network that keeps running statistics, as batch normalisation does; `{}` where it keeps none.

    `train` has it use the statistics of the batch and update the running ones; a key has it drop out, where it does.
    """

    init: Callable[[Key], tuple[Params, PyTree]]  # key -> params, statistics
    apply: Callable[..., tuple[Any, PyTree]]  # (params, statistics, x, key=None, train=False) -> output, statistics
    project: Callable[[Params], Params] = _as_it_is  # back to where parameters have to stay, such as unit norm, after each gradient step


def _nothing(*_: Any) -> None:
    """Releases nothing."""


def ignore_feedback(source_state: PyTree, feedback: PyTree) -> PyTree:
    """The `observe` of sources that need no feedback."""
    del feedback
    return source_state


class Source(NamedTuple):
    """Anywhere batches come from. Pure sources run inside jit; host sources (`pure=False`) are called from Python."""

    spec: Spec
    init: Callable[[Key, Params], PyTree]  # (key, behaviour) -> source state (fills a replay, resets worlds)
    next: Callable[[PyTree, Params, Key], tuple[PyTree, PyTree]]  # (source state, behaviour, key) -> source state, batch
    observe: Callable[[PyTree, PyTree], PyTree] = ignore_feedback  # (source state, feedback) -> source state
    pure: bool = True
    steps_per_batch: int = 0  # new environment steps in a batch; 0 for stored data
    initial_steps: int = 0  # environment steps that `init` makes
    allocation: Mapping[str, int] = {}  # bytes that `init` allocates, by name ("host/..." on the host), if worth telling
    metrics: Callable[[PyTree], Metrics] = lambda _: {}  # source state -> what to log (returns, falls, quarantined worlds)
    close: Callable[[], None] = _nothing
    empty: Callable[[Key, Params], PyTree] | None = None  # as `init`, without the first steps: what a checkpoint is put into; None: `init`


class EnvSpec(NamedTuple):
    """What an environment shows and takes."""

    name: str
    observation: Spec
    action: ArraySpec
    episode_length: int  # steps until truncation
    dt: float  # seconds per step; 0 where time has no unit
    metrics: tuple[str, ...] = ()  # the keys of TimeStep.metrics


INSTRUCTION = "task/instruction"  # an observation, int32 [length]: tokens of what a policy is told in words, -1 where there is none
SUCCESS = "success"  # the metric of a `TimeStep` whose value at an episode's last step is the episode's outcome


class TimeStep(NamedTuple):
    """What one step yields. `observation` is the true one that follows the action, also when the episode ends here."""

    observation: Observation
    reward: Array  # []
    discount: Array  # [] 0 at termination, 1 otherwise
    truncation: Array  # [] 1 where the episode is cut although it could go on
    metrics: Metrics  # scalars, one per name in EnvSpec.metrics


class Space(NamedTuple):
    """What of an environment's physics varies, as points of a unit cube, so that a curriculum need know nothing of physics.

    Each of the D dimensions belongs to one of G parameters: those of "link_mass" are the factors of the single links.
    """

    names: tuple[str, ...]  # of the G parameters
    units: tuple[str, ...]  # of the G parameters
    group: tuple[int, ...]  # of the D dimensions, the parameter that each belongs to
    center: tuple[float, ...]  # of the D dimensions, where the nominal value is: 0 is the lower end of its range, 1 the upper
    draw: Callable[[Key], Array]  # key -> point [D], uniform in each dimension
    at: Callable[[Array], Params]  # point [D] -> physics params
    quantile: Callable[[Array], Array]  # point [D] -> the values there [D], in the units of their parameters
    summary: Callable[[Params], Mapping[str, Any]]  # physics params [N, ...] -> few numbers [N] that tell them, by name


class Steering(NamedTuple):
    """A command that a person can give while an episode runs: a joystick."""

    names: tuple[str, ...]  # of its n axes
    low: tuple[float, ...]
    high: tuple[float, ...]
    set: Callable[[PyTree, Array], PyTree]  # (env state, command [n]) -> env state under that command


class Reflection(NamedTuple):
    """A vector [D] in a mirror: entry i of the image is `sign[i] * x[source[i]]`."""

    source: tuple[int, ...]
    sign: tuple[float, ...]


class Mirror(NamedTuple):
    """A task in a mirror, where the mirror image of every episode is as likely, and its rewards are the same."""

    observation: Mapping[str, Reflection]  # of every group that is a vector
    action: Reflection


class Env(NamedTuple):
    """One episode in one world; it never resets itself and never samples its own physics."""

    spec: EnvSpec
    reset: Callable[[Key, Params], tuple[PyTree, Observation]]  # (key, physics params) -> env state, observation
    step: Callable[[PyTree, Array, Params, Key], tuple[PyTree, TimeStep]]  # (env state, action, physics params, key)
    restart: Callable[[PyTree, Params, Key], tuple[PyTree, Observation]]
    # (env state fresh from some reset, physics params, key) -> env state, observation: that start under other physics; no physics step
    nominal: Params  # physics params of the unrandomised world
    sample: Callable[[Key], Params]  # physics params of a new episode; `nominal` where nothing is randomised
    render: Callable[..., Any] | None = None  # (env states as numpy, width, height) -> uint8 frames [N, height, width, 3], on the host
    space: Space | None = None  # what `sample` varies; None where that is nothing
    steering: Steering | None = None  # None where nobody steers
    mirror: Mirror | None = None  # None where a mirror image would be another task
    vital: Callable[[PyTree], PyTree] = _as_it_is
    # env state -> what of it steps continue from; the rest is not checked: it only follows, and where it is not finite may do no harm


class Curriculum(NamedTuple):
    """How the physics parameters of new episodes are drawn, and how that follows from the episodes that have ended.

    An episode's outcome is 1 for a success and 0 for a failure: its last `success` metric, or else whether it did not terminate. Outcomes
    are added up in a tally, one for all worlds of a device; tallies of several devices add up to that of all.
    """

    init: Callable[[], PyTree]  # -> state
    draw: Callable[[PyTree, Key], tuple[Params, PyTree]]  # (state, key) -> physics params, tag: what the outcome is to be credited to
    tally: Callable[[], PyTree]  # -> one without outcomes
    credit: Callable[[PyTree, PyTree, Array, Array], PyTree]  # (tally, tags [N], outcomes [N], which of them count [N]) -> tally
    observe: Callable[[PyTree, PyTree], PyTree]  # (state, tally) -> state
    metrics: Callable[[PyTree], Metrics]  # state -> what to log: the ranges of the parameters


class HostWorlds(NamedTuple):
    """B worlds of a `HostEnv`. They never reset themselves; a world whose episode ended must be reset before the next step."""

    reset: Callable[..., Observation]  # (which [B] bool, seed=None) -> observation [B] of all; a seed is counted up from world to world
    step: Callable[[Any], TimeStep]  # action [B, A] -> what it yields [B], as of `Env`
    close: Callable[[], None]


class HostEnv(NamedTuple):
    """Environments that keep their state outside JAX, such as other people's simulators. Called from Python, with numpy arrays.

    That state is in no checkpoint: a resumed run begins new episodes.
    """

    spec: EnvSpec
    open: Callable[[int], HostWorlds]  # number of worlds -> worlds that have not begun an episode yet


class Transition(NamedTuple):
    """One step of one world, stacked to `[T, B, ...]` by collectors.

    `next_observation` is the true one, before any reset. `discount` 0 stops the bootstrap; `truncation` 1 with `discount` 1 asks for it.
    """

    observation: Observation
    action: Array
    reward: Array
    discount: Array
    truncation: Array
    next_observation: Observation
    extras: dict[str, Array]  # what the policy returned beside the action


class Replayed(NamedTuple):
    """Steps drawn from a memory, `[updates, batch, ...]`, each with what followed it within `n_step` steps of the same episode.

    The return of n steps is the discounted sum over `reward`, and `discount * gamma**steps` times the value of `next_observation`.
    """

    observation: Observation
    action: Array
    reward: Array  # [updates, batch, n_step], 0 after the last of the steps
    steps: Array  # int32, 1 to n_step: fewer where the episode ended, or has not gone further yet
    discount: Array  # 0 where the episode terminated within these steps, 1 otherwise
    next_observation: Observation  # the true one after the last of the steps
    weight: Array  # of its loss: 1, or what makes up for a draw that is not uniform
    extras: dict[str, Array]  # of the policy that acted, at the first step
