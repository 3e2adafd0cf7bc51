"""A student acts while an expert looks on: it says at each step what it would do, and takes over where the rule says so.

DAgger: Ross et al. 2011, https://arxiv.org/abs/1011.0686; SafeDAgger: Zhang & Cho 2017, https://arxiv.org/abs/1605.06450; HG-DAgger: Kelly
et al. 2019, https://arxiv.org/abs/1810.02890.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.types import Array, ArraySpec, Observation, Params, Policy, PolicySpec, PyTree

LABEL, COUNTS, FLAG = "expert", "counts", "takes_over"


@dataclass(frozen=True)
class Config:
    """`rule` says who acts, and which steps are learnt from:

    - "dagger": the expert acts in a share `beta` of the episodes, the student in the others; every step counts;
    - "safe_dagger": the expert acts, and the step counts, where their actions are further than `threshold` apart;
    - "hg_dagger": as a person at the robot who takes over at `threshold` and gives back below `release`; steps under the expert count;
    - "human": the expert takes over where it returns a flag, `takes_over` [B], among its extras; steps under it count.

    The distance is the root of the mean square over the dimensions of the action, in the action's own unit.
    """

    rule: Literal["dagger", "safe_dagger", "hg_dagger", "human"] = "dagger"
    beta: float = 0.0
    threshold: float = 0.1
    release: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta is {self.beta}, but must be between 0 and 1")
        if not 0 <= self.release <= self.threshold:
            raise ValueError(f"release is {self.release}, but must lie between 0 and the threshold, {self.threshold}")


class _Seen(NamedTuple):
    """What a rule looks at, [B] each."""

    coin: Array  # that was tossed at the episode's first step: whether the expert has it
    apart: Array  # distance of the two actions
    taken: Array  # whether the expert had the step before
    flag: Array  # the human's


RULES: dict[str, Callable[[Config, _Seen], tuple[Array, Array]]] = {  # -> whether the expert acts, whether the step counts
    "dagger": lambda config, seen: (seen.coin, jnp.ones_like(seen.coin)),
    "safe_dagger": lambda config, seen: (seen.apart > config.threshold,) * 2,
    "hg_dagger": lambda config, seen: (seen.apart > jnp.where(seen.taken, config.release, config.threshold),) * 2,
    "human": lambda config, seen: (seen.flag,) * 2,
}


def overseen(config: Config, student: Policy, expert: Policy, expert_params: Params) -> Policy:
    """Acts by the parameters of the student, one step at a time; extras are what the expert would do, `expert` [A], and `counts` [].

    A student that predicts chunks is asked at each step, and its first action taken.

    Raises:
        ValueError: their actions differ, the expert predicts chunks, or the rule is a human's and the expert raises no flag.
    """
    one, other = student.spec.action, expert.spec.action
    if (one.shape, one.dtype) != (other.shape, other.dtype) or not one.dtype.startswith("float"):
        raise ValueError(
            f"the student's actions are {one.dtype} {one.shape}, the expert's {other.dtype} {other.shape}; both must be the same"
        )
    if expert.spec.executed_steps != 1:
        raise ValueError(f"the expert executes {expert.spec.executed_steps} steps at once, but is asked at every step")
    if config.rule == "human" and FLAG not in expert.spec.extras:
        raise ValueError(f"rule is human, but the expert raises no flag: its extras are {sorted(expert.spec.extras)}, without {FLAG}")

    def init(size: int) -> PyTree:
        no = jnp.zeros(size, bool)
        return {"student": student.init(size), "expert": expert.init(size), "begun": no, "coin": no, "taken": no}

    def act(params: Params, observation: Observation, carry: PyTree, key: Any, context: Any = None) -> tuple[Array, PyTree, dict]:
        own, its, toss = jnp.moveaxis(jax.vmap(lambda k: jax.random.split(k, 3))(key), 1, 0)
        chunk, of_student, _ = student.act(params, observation, carry["student"], own, context)
        label, of_expert, told = expert.act(expert_params, observation, carry["expert"], its, None)
        action, label = chunk[:, 0], label[:, 0]
        coin = jnp.where(carry["begun"], carry["coin"], jax.vmap(lambda k: jax.random.bernoulli(k, config.beta))(toss))
        apart = jnp.sqrt(jnp.square(action - label).mean(-1))
        flag = told[FLAG] > 0 if FLAG in told else jnp.zeros_like(coin)
        acts, counts = RULES[config.rule](config, _Seen(coin, apart, carry["taken"], flag))
        later = {"student": of_student, "expert": of_expert, "begun": jnp.ones_like(coin), "coin": coin, "taken": acts}
        return jnp.where(acts[:, None], label, action)[:, None], later, {LABEL: label, COUNTS: counts.astype(jnp.float32)}

    extras = {LABEL: ArraySpec(one.shape), COUNTS: ArraySpec(())}
    spec = PolicySpec({**expert.spec.observation, **student.spec.observation}, one, rate=student.spec.rate, extras=extras)
    return Policy(spec, init, act)
