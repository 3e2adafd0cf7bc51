"""What `train`, `eval` and `render` leave in the folder of a run: figures with intervals, the learning curve, a video."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxrl.cli import run as runs
from jaxrl.cli.on_data import demonstrations, evaluate_on_data, lines, of_run
from jaxrl.cli.run import Loaded, say
from jaxrl.cli.settings import HOST_ROLLOUT, ROLLOUT, check_acts_in
from jaxrl.evaluation import int8, motion, report
from jaxrl.evaluation.curves import learning_curve
from jaxrl.evaluation.evaluate import Acting, compare, evaluate, filmed
from jaxrl.evaluation.latency import latency
from jaxrl.evaluation.open_loop import Episode
from jaxrl.evaluation.randomisation import draw_curriculum, draw_report, randomisation_report
from jaxrl.evaluation.video import write_mp4
from jaxrl.types import Env, HostEnv


def evaluate_run(workdir: Path, step: int | None = None, best: bool = False, overrides: tuple[str, ...] = ()) -> None:
    """Writes evaluation.json, learning_curve.png, of what acts video.mp4 and of what learnt from data actions.png into the folder of a run;
    says what it found.
    """
    found = runs.opened(workdir, step, best, overrides)
    data = of_run(found)
    results = evaluate_on_data(found, data, workdir / runs.ACTIONS)
    if found.env is not None or not results:
        results = evaluate_acting(runs.acting(found, workdir), demonstrations(found, data)) | results
    results |= {"train_seconds": found.meta["seconds"], "env_steps": found.meta["env_steps"], "update": found.meta["update"]}
    runs.write_json(workdir / runs.EVALUATION, results)
    say_results(results)
    draw_curve(workdir, found.env, found.settings)
    if found.env is not None:
        chosen = found.settings.evaluation
        film(runs.acting(found, workdir), workdir / runs.VIDEO, chosen.video_seconds, chosen.seed)


def evaluate_acting(loaded: Loaded, shown: Sequence[Episode] = ()) -> dict[str, Any]:
    """Results of a policy in its environment, beside what was `shown` to it."""
    chosen, env = loaded.settings.evaluation, loaded.env
    conditions = 2 if isinstance(env, HostEnv) else 3
    seeds = f", for each of {1 + len(loaded.others)} seeds" if loaded.others else ""
    say(f"evaluating {conditions * chosen.num_episodes} episodes of {env.spec.episode_length} steps{seeds}")
    return evaluate(env, loaded.algorithm.policy, loaded.params, chosen.num_episodes, chosen.seed, loaded.others, shown)


def say_results(results: dict[str, Any]) -> None:
    """Prints the table of an evaluation.json."""
    _say_table(report.table(results, report.names(results)))
    if "motion" in results:
        _say_table(motion.table(results["motion"]))
    for line in (*report.seed_lines(results), *lines(results)):
        say(line)


def _say_table(rows: Sequence[tuple[str, ...]]) -> None:
    for row in rows:
        say("  ".join(f"{cell:<24}" for cell in row))


def compare_runs(workdir: Path, against: Path, step: int | None, best: bool, overrides: tuple[str, ...]) -> None:
    """Writes comparison.json into the folder of a run: its policy and another's in the same episodes; says how far they are apart.

    Raises:
        ValueError: the environment of the first is none, or none for the second.
    """
    first, second = runs.load(workdir, step, best, overrides), runs.opened(against, None, best)
    check_acts_in(first.env, second.algorithm.policy.spec, f"the policy of {against}")
    chosen, env = first.settings.evaluation, first.env
    say(f"first: {workdir}, second: {against}; {chosen.num_episodes} episodes of {env.spec.name} for each condition, the same of both")
    one, other = (Acting(run.algorithm.policy, run.params) for run in (first, second))
    results = compare(env, one, other, chosen.num_episodes, chosen.seed)
    runs.write_json(workdir / runs.COMPARISON, {"first": str(workdir), "second": str(against)} | results)
    _say_table(report.difference_table(results))


def evaluate_rounded(workdir: Path, step: int | None, best: bool, overrides: tuple[str, ...]) -> None:
    """Writes int8.json into the folder of a run: how its policy with kernels of 8 bits differs, what that saves, and how it acts.

    Raises:
        ValueError: the run did not learn from data that are still there, or the policy differs by more than is allowed.
    """
    found = runs.opened(workdir, step, best, overrides)
    data = of_run(found)
    if data is None:
        raise ValueError(f"{workdir}: --int8 is for a run on data that are still there, whose episodes tell what rounding costs")
    data.source.close()
    policy, results = found.algorithm.policy, dict[str, Any]({"sets": {}})
    for name, one in data.sets.items():
        rounded = int8.rounded(policy, found.params, one.episodes, seed=found.settings.evaluation.seed)
        results["sets"][name] = {"error": rounded.error}
        say(f"actions in {name} differ by {rounded.error:.2%} of their range on average ({data.part} episodes)")
    results |= {"bytes": {"before": rounded.before, "after": rounded.after}}
    say(f"parameters take {rounded.after / 1e6:,.1f} MB in place of {rounded.before / 1e6:,.1f}")
    results["latency"] = {name: latency(policy, params) for name, params in (("before", found.params), ("after", rounded.learnt))}
    say(f"latency: p50 {1e3 * results['latency']['after']['p50']:.2f} ms in place of {1e3 * results['latency']['before']['p50']:.2f}")
    if found.env is not None:
        acted = evaluate_acting(runs.acting(found._replace(params=rounded.learnt, others=()), workdir))
        say_results(acted)
        results |= acted
    runs.write_json(workdir / runs.INT8, results)


def draw_curve(workdir: Path, env: Env | HostEnv | None, settings: Any) -> None:
    """Writes learning_curve.png from the metrics of a run, if it has any; where there is nothing to draw, says why and goes on."""
    if not (workdir / runs.METRICS).exists():
        return
    title = "" if env is None else env.spec.name
    axes = ("minutes", "env_steps" if settings.source["name"] in (ROLLOUT, HOST_ROLLOUT) else "updates")
    try:
        learning_curve(workdir / runs.METRICS, workdir / runs.CURVE, runs.shown(env, settings), axes, title)
    except ValueError as error:  # a run too short for an episode to finish
        say(f"no learning curve: {error}")


def film(loaded: Loaded, path: Path, seconds: float, seed: int, width: int = 640, height: int = 480) -> bool:
    """Writes a video of one episode; where it cannot be drawn, says why, goes on and returns False."""
    try:
        frames, fps = filmed(loaded.env, loaded.algorithm.policy, loaded.params, seconds, seed, width, height)
        write_mp4(frames, path, fps)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        say(f"no video: {error}")
        return False
    say(f"video: {path}")
    return True


def report_randomisation(loaded: Loaded, workdir: Path) -> None:
    """Writes randomisation.json and randomisation.png, and curriculum.png where the run has moved its ranges."""
    chosen, env = loaded.settings.evaluation, loaded.env
    say(f"playing {chosen.num_episodes} episodes of {env.spec.episode_length} steps in the randomised world")
    results = randomisation_report(env, loaded.algorithm.policy, loaded.params, chosen.num_episodes, chosen.seed)
    runs.write_json(workdir / runs.RANDOMISATION, results)
    draw_report(results, workdir / runs.RANDOMISATION_PICTURE, title=env.spec.name)
    say(f"success against each parameter: {workdir / runs.RANDOMISATION_PICTURE}")
    if loaded.settings.curriculum and (workdir / runs.METRICS).exists():
        try:
            draw_curriculum(workdir / runs.METRICS, workdir / runs.CURRICULUM_PICTURE, title=f"{env.spec.name}: ranges while it learnt")
            say(f"ranges over the run: {workdir / runs.CURRICULUM_PICTURE}")
        except ValueError as error:  # a curriculum without ranges
            say(f"no picture of the curriculum: {error}")
