"""What a config may hold, and the parts that a run is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from jaxrl.config import build, part, plain
from jaxrl.distributed.mesh import Config as Mesh
from jaxrl.ops.specs import check_spec
from jaxrl.policies import overseen
from jaxrl.replay import recording
from jaxrl.replay.recording import Recording
from jaxrl.rollout import environment as experiment
from jaxrl.training import fit
from jaxrl.types import Algorithm, Env, HostEnv, PolicySpec, Source

Section = dict[str, Any]
ROLLOUT, HOST_ROLLOUT = "jaxrl.rollout.rollout", "jaxrl.rollout.host_rollout"


@dataclass(frozen=True)
class Evaluation:
    """`num_episodes` for each condition.

    `score` is the metric by which the best checkpoint is kept, with "-" before it one that is best when low; by default the return of a
    policy that acts while it learns or is evaluated, else `-validation/error`.
    """

    num_episodes: int = 200
    seed: int = 1000
    score: str | None = None
    video_seconds: float = 12.0

    def __post_init__(self) -> None:
        if self.num_episodes < 1:
            raise ValueError(f"num_episodes is {self.num_episodes}, but must be at least 1")


@dataclass(frozen=True)
class Checkpoint:
    """How many checkpoints stay."""

    keep_last: int = 2
    keep_best: int = 1


@dataclass(frozen=True)
class Recorded:
    """`path` of a recording, as `jaxrl eval --record` writes it."""

    path: str


@dataclass(frozen=True)
class Settings:
    """The sections of a config. Those typed `Section` name a module and hold the fields of its Config.

    `hidden` are state groups of the environment that only a privileged critic is to see. With `mirror` every other step that is learnt from
    is seen in a mirror.
    """

    algorithm: Section
    source: Section
    replay: Section = field(default_factory=dict)  # between a rollout and an algorithm that learns from memory
    expert: Section = field(default_factory=dict)  # a scripted policy that tells a student what it should do, see jaxrl.policies.overseen
    oversight: overseen.Config = field(default_factory=overseen.Config)  # who acts meanwhile, the student or the expert
    filler: str | None = None  # folder of the run whose policy makes the first steps in the memory; by default actions are random
    pretrained: str | None = None  # folder of a run on data; what it has learnt, and what its objectives keep, is where this one begins
    env: Section | None = None
    wrapper: Section = field(default_factory=dict)  # around env, such as jaxrl_envs.wrappers.pixels
    hidden: tuple[str, ...] = ()
    mirror: bool = False
    networks: Section = field(default_factory=dict)
    bonus: Section = field(default_factory=dict)  # paid for what is new, such as jaxrl.bonuses.rnd
    curriculum: Section = field(default_factory=dict)  # by default jaxrl.curricula.static
    objectives: dict[str, Section] = field(default_factory=dict)
    policies: tuple[Section, ...] = ()  # around what was learnt from data, such as jaxrl.policies.receding_horizon; the innermost first
    data: Recorded | None = None
    demonstrations: Section = field(default_factory=dict)  # of data, in each batch beside what is replayed
    training: fit.Config = field(default_factory=fit.Config)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    devices: int = 1
    peak_tflops: float = (
        0.0  # of a device, for the utilisation in the metrics of runs on data; 0: as the maker says, where its name is known
    )
    mesh: Mesh | None = None  # how they share out what is learnt from data; by default each has all of the parameters


_KINDS = {
    "env": "task",
    "wrapper": "wrapper",
    "networks": "network",
    "algorithm": "algorithm",
    "source": "source",
    "replay": "replay",
    "demonstrations": "replay",
    "curriculum": "curriculum",
    "bonus": "bonus",
}


def _whole(section: Section, kind: str, where: str) -> dict[str, Any]:
    _, config = part(section, kind, where)
    return {"name": section["name"], **plain(config)}


def resolved(settings: Settings) -> dict[str, Any]:
    """The whole config, with every default that it relies on: a later change of a default in the code does not change a run."""
    whole = {name: value for name, value in plain(settings).items() if value}
    for name, kind in _KINDS.items():
        if name in whole:
            whole[name] = _whole(whole[name], kind, f"config.{name}")
    for name, (own, network, weight) in objectives_of(settings).items():
        where = f"config.objectives.{name}"
        whole["objectives"][name] = _whole(own, "objective", where) | {
            "weight": weight,
            "network": network if isinstance(network, str) else _whole(network, "network", f"{where}.network"),
        }
    if settings.policies:
        whole["policies"] = [_whole(one, "policy wrapper", f"config.policies[{i}]") for i, one in enumerate(settings.policies)]
    return whole


class Data(Protocol):
    """Data sets. What they are, and the statistics that they are normalised by, travels with each checkpoint."""

    def kept(self) -> dict[str, Any]: ...  # plain JSON
    def check(self, kept: Mapping[str, Any]) -> None: ...  # raises ValueError that names what is not as it was kept


class Parts(NamedTuple):
    env: Env | HostEnv | None
    algorithm: Algorithm
    source: Source
    data: Data | None = None
    learnt: PolicySpec | None = None  # of what is learnt, inside of `config.policies`; None: that of the algorithm's policy


def environment(settings: Settings) -> Env | HostEnv | None:
    """That of `config.env`, `config.wrapper` and `config.hidden`; None where the config has none."""
    if settings.env is not None:
        return experiment.environment(settings.env, settings.wrapper, settings.hidden)
    for name in ("wrapper", "hidden"):
        if getattr(settings, name):
            raise ValueError(f"config.{name}: has no effect without config.env; leave it out")
    return None


def objectives_of(settings: Settings) -> dict[str, tuple[Section, Section | str, float]]:
    """Of each objective its own section, that of its network or the name of the objective whose network it has too, and its weight."""
    table = {}
    for name, section in settings.objectives.items():
        own = {key: value for key, value in section.items() if key not in ("weight", "network")}
        weight = build(float, section.get("weight", 1.0), f"config.objectives.{name}.weight")
        network = section.get("network", {})
        table[name] = (own, network if isinstance(network, str) else dict(network), weight)
    return table


def refuse(settings: Settings, *sections: str) -> None:
    for name in sections:
        if getattr(settings, name):
            raise ValueError(f"config.{name}: has no effect with config.source.name={settings.source['name']}; leave it out")


def check_acts_in(env: Env | HostEnv, spec: PolicySpec, who: str) -> None:
    """Raises ValueError where a policy of `spec` reads or moves other things than `env` has, or at another rate."""
    needed, offered = ({**s.observation, "action": s.action} for s in (spec, env.spec))
    check_spec(needed, offered, needs=who, offers=f"the environment {env.spec.name}")
    if spec.rate and env.spec.dt and abs(spec.rate * env.spec.dt - 1.0) > 1e-3:
        raise ValueError(
            f"{who} acts {spec.rate:g} times per second, but the environment {env.spec.name} takes {1.0 / env.spec.dt:g} actions in that "
            "time; give it the rate of the data, such as by its action_repeat"
        )


def loaded_recording(settings: Settings) -> Recording:
    """The recording of config.data."""
    if settings.data is None:
        raise ValueError("config.data.path: missing; name the recording to learn from")
    return recording.load(settings.data.path)
