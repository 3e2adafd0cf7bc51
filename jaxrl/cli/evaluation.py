"""What `train` and `eval` do with a trained policy: figures with intervals, the learning curve, a video."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.cli import run as runs
from jaxrl.cli.assemble import Settings
from jaxrl.cli.run import Loaded, say
from jaxrl.evaluation import report
from jaxrl.evaluation.curves import learning_curve
from jaxrl.evaluation.play import Played, Step, draw, play, repeat, returns
from jaxrl.evaluation.video import write_mp4
from jaxrl.policies.constant import constant
from jaxrl.types import Env, Key, Metrics, Params, Policy


def evaluate(loaded: Loaded, num_episodes: int, seed: int) -> dict[str, Any]:
    """Results of the deterministic policy in the nominal and in the randomised world, beside a policy that does nothing.

    All episodes of the policy run in one compiled call; the seeds are fixed, so two policies meet the same episodes.
    """
    env, policy = loaded.env, loaded.algorithm.policy
    draws, episodes = jax.random.split(jax.random.key(seed))
    nominal, randomised = repeat(env.nominal, num_episodes), draw(env.sample, draws, num_episodes)
    both: Params = jax.tree.map(lambda a, b: np.concatenate([a, b]), nominal, randomised)
    played = jax.device_get(play(env, policy)(loaded.params, both, episodes))
    halves = {name: _rows(played, slice(k * num_episodes, (k + 1) * num_episodes)) for k, name in enumerate(report.CONDITIONS[:2])}
    standing = jax.device_get(play(env, constant(policy.spec))((), nominal, episodes))
    conditions = halves | {report.CONDITIONS[2]: standing}
    results: dict[str, Any] = {name: report.intervals(one) for name, one in conditions.items()}
    return results | {
        "num_episodes": num_episodes,
        "by_condition": {name: report.by_condition(one) for name, one in halves.items()},
        "by_parameter": report.by_parameter(halves["randomised"], jax.device_get(randomised)),
    }


def periodic(settings: Settings, env: Env | None, policy: Policy) -> Callable[[Params, Key], Metrics] | None:
    """What `fit` asks for every `evaluate_every` updates: means over the same episodes in the randomised world, [num_seeds] with several.

    Raises:
        ValueError: it is wanted, but there is nothing to act in.
    """
    every, num_seeds = settings.training.evaluate_every, settings.training.num_seeds
    if not every:
        return None
    if env is None:
        raise ValueError(f"config.training.evaluate_every is {every}, but the config has no env to act in; add config.env or set it to 0")
    draws, episodes = jax.random.split(jax.random.key(settings.evaluation.seed))
    parameters, run = draw(env.sample, draws, settings.evaluation.num_episodes), play(env, policy)

    def means(params: Params) -> dict[str, float]:
        played = jax.device_get(run(params, parameters, episodes))
        return {f"episode/{name}": float(values.mean()) for name, values in report.metrics_of(played).items()}

    def evaluate(params: Params, keys: Key) -> Metrics:
        if num_seeds == 1:
            return {name: jnp.asarray(value) for name, value in means(params).items()}
        each = [means(jax.tree.map(lambda leaf, i=i: leaf[i], params)) for i in range(num_seeds)]
        return {name: jnp.asarray([one[name] for one in each]) for name in each[0]}

    return evaluate


def _rows(played: Played, rows: slice) -> Played:
    steps = jax.tree.map(lambda x: x[:, rows], (played.alive, played.kept))
    return Played(steps[0], played.terminated[rows], played.diverged[rows], steps[1])


def evaluate_run(workdir: Path, step: int | None = None, best: bool = False, overrides: tuple[str, ...] = ()) -> None:
    """Writes evaluation.json, learning_curve.png and video.mp4 into the folder of a run; says what it found."""
    loaded = runs.load(workdir, step, best, overrides)
    chosen = loaded.settings.evaluation
    env = loaded.env
    say(f"evaluating {3 * chosen.num_episodes} episodes of {env.spec.episode_length} steps")
    results = evaluate(loaded, chosen.num_episodes, chosen.seed)
    results |= {"train_seconds": loaded.meta["seconds"], "env_steps": loaded.meta["env_steps"], "update": loaded.meta["update"]}
    runs.write_json(workdir / runs.EVALUATION, results)
    for row in report.table(results, report.names(results)):
        say("  ".join(f"{cell:<24}" for cell in row))
    draw_curve(workdir, env, loaded.meta["env_steps"] > 0)
    film(loaded, workdir / runs.VIDEO, chosen.video_seconds, chosen.seed)


def draw_curve(workdir: Path, env: Env | None, acting: bool) -> None:
    """Writes learning_curve.png from the metrics of a run, if it has any; where there is nothing to draw, says why and goes on."""
    if not (workdir / runs.METRICS).exists():
        return
    try:
        learning_curve(workdir / runs.METRICS, workdir / runs.CURVE, runs.shown(env, acting), title="" if env is None else env.spec.name)
    except ValueError as error:  # a run too short for an episode to finish
        say(f"no learning curve: {error}")


def film(loaded: Loaded, path: Path, seconds: float, seed: int, width: int = 640, height: int = 480) -> bool:
    """A video of one episode in the randomised world; where it cannot be drawn, says why, goes on and returns False."""
    env = loaded.env
    if env.render is None:
        say(f"no video: {env.spec.name} has nothing to draw")
        return False
    dt = env.spec.dt or 0.05
    steps = min(env.spec.episode_length, math.ceil(seconds / dt))
    parameters = draw(env.sample, jax.random.key(seed), 1)
    keep = lambda step: step.state  # noqa: E731
    played = jax.device_get(play(env, loaded.algorithm.policy, steps, keep)(loaded.params, parameters, jax.random.key(seed)))
    stride = max(1, round(1 / 30 / dt))
    states = jax.tree.map(lambda x: x[played.alive[:, 0], 0][::stride], played.kept)
    try:
        write_mp4(env.render(states, width, height), path, fps=1 / (dt * stride))
    except (ImportError, OSError, RuntimeError) as error:
        say(f"no video: {error}")
        return False
    say(f"video: {path}")
    return True


def record(loaded: Loaded, path: Path, num_episodes: int, seed: int) -> None:
    """Episodes in the randomised world as a recording to learn from: what the policy saw and did."""
    from jaxrl.replay.recording import Recording, save

    def keep(step: Step) -> dict[str, Any]:
        seen = {name: step.observation[name] for name in loaded.algorithm.policy.spec.observation}
        return {"observation": seen, "action": step.action} | {"reward": returns(step)["reward"]}

    draws, episodes = jax.random.split(jax.random.key(seed))
    parameters = draw(loaded.env.sample, draws, num_episodes)
    played = jax.device_get(play(loaded.env, loaded.algorithm.policy, keep=keep)(loaded.params, parameters, episodes))
    alive = played.alive.T  # [N, T]: the file holds one episode after the other
    rows = jax.tree.map(lambda x: np.swapaxes(x, 0, 1)[alive], played.kept)
    ends = np.cumsum(alive.sum(1))
    save(path, Recording(rows["observation"], rows["action"], rows["reward"], ends, loaded.algorithm.policy.spec))
    say(f"recorded {num_episodes} episodes, {ends[-1]:,} steps: {path}")
