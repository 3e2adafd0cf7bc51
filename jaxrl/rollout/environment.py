"""The environment that an experiment file describes."""

from collections.abc import Sequence
from typing import Any

from jaxrl.config import part
from jaxrl.rollout.hide import hide
from jaxrl.types import Env, HostEnv


def environment(task: Any, wrapper: Any = None, hidden: Sequence[str] = ()) -> Env | HostEnv:
    """The environment of the section `config.env`, in `config.wrapper`, without what `config.hidden` hides from the policy.

    Raises:
        ValueError: a faulty section, or a wrapper or something hidden around an environment that is stepped on the host.
    """
    make, config = part(task, "task", "config.env")
    made: Env | HostEnv = make(config)
    if isinstance(made, HostEnv):
        for name, given in (("wrapper", wrapper), ("hidden", hidden)):
            if given:
                raise ValueError(f"config.{name}: {made.spec.name} is stepped on the host, where it has no effect; leave it out")
        return made
    env: Env = made
    if wrapper:
        wrap, around = part(wrapper, "wrapper", "config.wrapper")
        env = wrap(around, env)
    return hide(env, tuple(hidden)) if hidden else env
