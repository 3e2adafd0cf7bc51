"""A run on disk: what `jaxrl train` writes and the other commands read.

config.json       the resolved config, with every default
data.json         the data sets: fingerprints, and the statistics that they are normalised by
provenance.json   versions and git state
checkpoints/      train state, source state, and a document with config, specs, versions and data sets
metrics.jsonl     one line per report
tensorboard/      the same for TensorBoard
not_finite/       the state in which something was not finite
evaluation.json   results with intervals
learning_curve.png, video.mp4, actions.png
comparison.json   with another run, of `jaxrl eval --against`
int8.json         what rounding to 8 bits costs and saves, of `jaxrl eval --int8`
diagnosis.json    what `jaxrl diagnose` found
"""

import dataclasses
import json
import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl import config as configs
from jaxrl.files import written_whole
from jaxrl.types import Algorithm, Env, HostEnv, Params

CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
EVALUATION = "evaluation.json"
CONFIG = "config.json"
DATA = "data.json"
PROVENANCE = "provenance.json"
TENSORBOARD = "tensorboard"
NOT_FINITE = "not_finite"
CURVE = "learning_curve.png"
VIDEO = "video.mp4"
ACTIONS = "actions.png"
COMPARISON = "comparison.json"
INT8 = "int8.json"
DIAGNOSIS = "diagnosis.json"
DIAGNOSIS_PICTURE = "diagnosis.png"
RANDOMISATION = "randomisation.json"
RANDOMISATION_PICTURE = "randomisation.png"
CURRICULUM_PICTURE = "curriculum.png"
# Of what has been learnt.
REPORTS = (
    *(EVALUATION, CURVE, VIDEO, ACTIONS, COMPARISON, INT8, DIAGNOSIS, DIAGNOSIS_PICTURE),
    *(RANDOMISATION, RANDOMISATION_PICTURE, CURRICULUM_PICTURE),
)


def say(text: str) -> None:
    """One line about what happens, at once."""
    print(text, flush=True)


def _with_own_backend(env: dict[str, Any]) -> dict[str, Any]:
    """The section of a task, with the task's own default where it names no backend. What is wrong with it is said by whoever builds it."""
    if "backend" in env:
        return env
    try:
        chosen, _ = configs.resolve(env["name"], "task")
    except (KeyError, ValueError, ImportError):
        return env
    return {one.name: one.default for one in dataclasses.fields(chosen) if one.name == "backend"} | env


def prepare_backend(config: Any) -> None:
    """Sets the XLA flags that the chosen physics backend needs. Works only before jax makes its first array."""
    env = _with_own_backend(configs.plain(config).get("env") or {})
    if os.environ.get("JAX_PLATFORMS", "cpu") != "cpu":
        return
    if find_spec("jaxrl_envs") is None:  # whoever builds the task says what to install
        return
    xla_flags = import_module("jaxrl_envs.xla_flags")
    if xla_flags.needed_by(env) and xla_flags.missing():
        os.environ["XLA_FLAGS"] = xla_flags.xla_flags()
        say(f"what MJX needs on a CPU: XLA_FLAGS={os.environ['XLA_FLAGS']}")


class Opened(NamedTuple):
    """What a run has learnt, with or without something to act in."""

    env: Env | HostEnv | None
    algorithm: Algorithm
    params: Params  # deployable; of the first seed where there are several
    settings: Any
    meta: dict[str, Any]
    others: tuple[Params, ...] = ()  # of the other seeds


class Loaded(NamedTuple):
    """A trained policy, ready to act."""

    env: Env | HostEnv
    algorithm: Algorithm
    params: Params  # deployable; of the first seed where there are several
    settings: Any
    meta: dict[str, Any]
    others: tuple[Params, ...] = ()  # of the other seeds


def checkpoints_of(workdir: Path) -> Path:
    """The folder of a run's checkpoints. Raises FileNotFoundError where there is no run."""
    directory = workdir / CHECKPOINTS
    if not directory.is_dir():
        raise FileNotFoundError(f"{workdir}: no run here, {directory} is missing; `jaxrl train --config ... --workdir {workdir}` makes one")
    return directory


def config_of(workdir: Path) -> dict[str, Any]:
    """The whole config of a run, with every default. Raises FileNotFoundError where there is no run or no checkpoint."""
    from jaxrl.training.checkpoint_folder import read_meta

    return read_meta(checkpoints_of(workdir), None)["config"]


class _Found(NamedTuple):
    """A run before its parameters are read."""

    env: Env | HostEnv | None
    algorithm: Algorithm
    evaluated: Algorithm  # what acts with its deployable parameters
    settings: Any
    checkpoints: Any
    step: int | None


def _find(workdir: Path, step: int | None, best: bool, overrides: tuple[str, ...]) -> _Found:
    from jaxrl.training.checkpoint import open_checkpoints
    from jaxrl.training.checkpoint_folder import read_meta

    directory = checkpoints_of(workdir)
    meta = read_meta(directory, step)  # before Orbax, which starts JAX
    config = configs.ConfigDict(configs.plain(meta["config"]))
    for word in overrides:
        configs.override(config, word)
    prepare_backend(config)

    from jaxrl.cli.assemble import deployed, for_evaluation
    from jaxrl.cli.settings import Settings, environment
    from jaxrl.ops import specs
    from jaxrl.training.provenance import versions

    checkpoints = open_checkpoints(directory, read_only=True)
    if best and step is None:
        step = checkpoints.best()
        if step is None:
            raise FileNotFoundError(f"{workdir}: no checkpoint has a score; leave out --best")
    if changed := configs.difference(meta["versions"], versions(), "version"):
        say("made with other versions, so figures may differ: " + ", ".join(changed))
    settings = configs.build(Settings, config, "config")
    env = environment(settings)
    algorithm, evaluated = (for_evaluation(one, specs.from_json(meta["spec"]), env) for one in (settings, deployed(settings)))
    return _Found(env, algorithm, evaluated, settings, checkpoints, step)


def _restore(found: _Found) -> tuple[list[Params], dict[str, Any]]:
    """The deployable parameters of each seed, and the meta."""
    import jax

    template = jax.eval_shape(found.algorithm.init, jax.random.key(0))
    num_seeds = found.settings.training.num_seeds
    if num_seeds > 1:
        say(f"this run has {num_seeds} seeds; a single policy is that of the first")
        template = jax.tree.map(lambda x: jax.ShapeDtypeStruct((num_seeds, *x.shape), x.dtype), template)
    parts, meta = found.checkpoints.restore({"train_state": template}, found.step)
    state = parts["train_state"]
    seeds = [state] if num_seeds == 1 else [jax.tree.map(lambda x, i=i: x[i], state) for i in range(num_seeds)]
    return [found.algorithm.deployable(seed) for seed in seeds], meta


def opened(workdir: Path, step: int | None = None, best: bool = False, overrides: tuple[str, ...] = ()) -> Opened:
    """What a run has learnt from its checkpoint alone, by default the latest.

    Raises:
        FileNotFoundError: there is no run or no such checkpoint.
        ValueError: the policy does not fit the environment of the run.
    """
    found = _find(workdir, step, best, overrides)
    if found.env is not None:
        from jaxrl.cli.settings import check_acts_in

        check_acts_in(found.env, found.evaluated.policy.spec, "the policy of this run")
    (first, *others), meta = _restore(found)
    return Opened(found.env, found.evaluated, first, found.settings, meta, tuple(others))


def acting(found: Opened, workdir: Path) -> Loaded:
    """A policy that has something to act in. Raises ValueError where it has not."""
    if found.env is None:
        raise ValueError(f"{workdir}: its config has no env, so there is nothing to act in; add one with --config.env.name=...")
    return Loaded(found.env, *found[1:])


def load(workdir: Path, step: int | None = None, best: bool = False, overrides: tuple[str, ...] = ()) -> Loaded:
    """The policy of a run from its checkpoint alone, by default the latest.

    Raises:
        FileNotFoundError: there is no run or no such checkpoint.
        ValueError: the run has no environment to act in, or its policy does not fit it.
    """
    return acting(opened(workdir, step, best, overrides), workdir)


def learnt(workdir: Path) -> Params:
    """The deployable parameters of the latest checkpoint of a run, whether or not it has something to act in; of its first seed.

    Raises FileNotFoundError where there is no run or no checkpoint.
    """
    return _restore(_find(workdir, None, False, ()))[0][0]


def shown(env: Env | HostEnv | None, settings: Any) -> tuple[str, ...]:
    """The metrics worth watching: a loss and an error on data; of what acts, or is evaluated, its return, the task's errors and falls."""
    loss = ("loss", "validation/error", "speed/mfu") if settings.objectives else ()
    if env is None or (loss and not settings.training.evaluate_every):
        return loss
    errors = (f"episode/{name}" for name in env.spec.metrics if name.endswith("_error"))
    return (*loss, "episode/return", *errors, "episode/fall_rate")


def write_json(path: Path, values: Any) -> None:
    """Writes the file whole or not at all."""
    with written_whole(path) as part:
        part.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n")


def add_choice_of_checkpoint(parser: Any, nargs: str | None = None) -> None:
    """The arguments that name a run and one of its checkpoints; with `nargs` "?" the run may be left out."""
    parser.add_argument("workdir", type=Path, nargs=nargs, help="folder of the run")
    parser.add_argument("--step", type=int, help="checkpoint of this update; by default the latest")
    parser.add_argument("--best", action="store_true", help="the checkpoint with the best score")


def overrides_among(parser: Any, unknown: list[str]) -> tuple[str, ...]:
    """The overrides among arguments that the parser does not know; exits with a message on any other."""
    wrong = [word for word in unknown if not word.startswith("--config.")]
    if wrong:
        parser.error(f"unknown argument {wrong[0]}; overrides look like --config.training.seed=1")
    return tuple(unknown)
