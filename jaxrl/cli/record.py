"""Episodes of a policy as data: a recording that imitation reads, or a data set in RLDS or LeRobot.

The policy is that of a run, or one that somebody wrote, named by an experiment file in the section `policy`.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl import config as configs
from jaxrl.cli import run as runs
from jaxrl.cli.data import installed
from jaxrl.cli.run import Loaded, say
from jaxrl.cli.settings import Evaluation, Section, check_acts_in, resolved
from jaxrl.evaluation.record import episodes, recorded
from jaxrl.ops.specs import policy_spec
from jaxrl.replay.recording import check, save, stored
from jaxrl.rollout.environment import environment
from jaxrl.types import Env, HostEnv, Params, Policy

CODEC = "libsvtav1"
ACTING = ("env", "wrapper", "hidden", "algorithm", "networks", "objectives")  # sections that what a policy does follows from


@dataclass(frozen=True)
class Scripted:
    """The sections of an experiment file whose policy learns nothing. `instruction` tells its task in words."""

    env: Section
    policy: Section  # a module of jaxrl_envs.scripted, or one of your own with a Config and a factory of the module's name
    wrapper: Section = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    instruction: str = ""
    evaluation: Evaluation = field(default_factory=lambda: Evaluation(num_episodes=20))


class Acting(NamedTuple):
    """A policy in its environment."""

    env: Env | HostEnv
    policy: Policy
    params: Params
    evaluation: Evaluation
    instruction: str
    sections: dict[str, Any]  # of the config, that the episodes follow from


def of_run(loaded: Loaded) -> Acting:
    """The policy of a run."""
    sections = {name: section for name, section in resolved(loaded.settings).items() if name in ACTING}
    return Acting(loaded.env, loaded.algorithm.policy, loaded.params, loaded.settings.evaluation, "", sections)


def scripted(path: str, overrides: Sequence[str] = ()) -> Acting:
    """The policy that an experiment file names.

    Raises:
        ValueError: a faulty config, or a policy that reads or moves other things than the environment has.
    """
    config = configs.load(path, overrides)
    settings = configs.build(Scripted, config, "config")
    runs.prepare_backend(config)
    env = environment(settings.env, settings.wrapper, settings.hidden)
    make, own = configs.part(settings.policy, "policy", "config.policy")
    policy: Policy = make(own)
    check_acts_in(env, policy.spec, f"the policy {settings.policy['name']}")
    policy = policy._replace(spec=policy.spec._replace(action=env.spec.action, rate=policy_spec(env.spec).rate))
    sections = {name: section for name, section in configs.plain(settings).items() if name in ("policy", *ACTING)}
    return Acting(env, policy, (), settings.evaluation, settings.instruction, sections)


def record(acting: Acting, path: Path, to: str, instruction: str | None = None, fps: int = 0, codec: str = CODEC) -> None:
    """Writes the episodes of `config.evaluation`, in the randomised world; `to` is npz, rlds or lerobot.

    An npz takes the place of what is there. A folder is gone on with, if it was begun by the same policy, environment and seed.
    """
    chosen, name = acting.evaluation, acting.env.spec.name
    if to == "npz":
        recording = recorded(acting.env, acting.policy, acting.params, chosen.num_episodes, chosen.seed)
        save(path, recording)
        say(f"recorded {chosen.num_episodes} episodes, {recording.episode_ends[-1]:,} steps: {path}")
        return
    told = acting.instruction if instruction is None else instruction
    spec = acting.policy.spec._replace(observation=acting.env.spec.observation)

    def play(first: int, last: int) -> Iterator[dict[str, np.ndarray]]:
        for number, one in enumerate(episodes(acting.env, acting.policy, acting.params, last, chosen.seed, first), first):
            check(one, f"episode {number} of {name}")
            yield stored(one)

    with installed():
        dataset = import_module("jaxrl_data.recorder").played(name, spec, chosen.num_episodes, play, _fingerprint(acting, told), told)
        import_module("jaxrl_data.writing").record(dataset, str(path), to, fps, codec)


def _fingerprint(acting: Acting, instruction: str) -> str:
    """Of all that the episodes follow from, but for versions of the code."""
    found = hashlib.sha256(json.dumps([acting.sections, acting.evaluation.seed, instruction], sort_keys=True, default=str).encode())
    for leaf in jax.tree.leaves(jax.device_get(acting.params)):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()[:32]
