"""PPO baselines of the control suite beside published returns: trains what is missing, then writes the table.

Command: python experiments/launchers/baselines.py --workdir runs/baselines
Each task and seed is a run of `jaxrl train` in a folder of its own, one after the other, whatever else the machine does. The command may be
cut at any time: called again, it skips the runs that are evaluated and goes on with the one that was cut. `--table` trains nothing.

Published: CleanRL, ppo_continuous_action.py through shimmy, 8 million steps without action repeat, mean and standard deviation over ten
seeds of the last training returns (https://docs.cleanrl.dev/rl-algorithms/ppo/). Ours: 50 episodes per seed of the policy's mode.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

CONFIG = Path(__file__).parents[1] / "ppo_control_suite.py"
SEEDS = 3
PUBLISHED_SEEDS = 10
PUBLISHED = {  # mean and standard deviation
    "acrobot_swingup": (27.84, 9.25),
    "ball_in_cup_catch": (900.78, 5.26),
    "cartpole_balance": (855.47, 22.06),
    "cartpole_balance_sparse": (999.93, 0.10),
    "cartpole_swingup": (640.86, 11.44),
    "cartpole_swingup_sparse": (51.34, 58.35),
    "cheetah_run": (432.56, 82.54),
    "finger_spin": (590.49, 171.09),
    "finger_turn_easy": (180.42, 44.91),
    "finger_turn_hard": (61.40, 9.59),
    "fish_swim": (87.91, 6.83),
    "fish_upright": (516.21, 59.52),
    "hopper_hop": (0.52, 0.48),
    "hopper_stand": (2.72, 1.72),
    "humanoid_run": (1.11, None),
    "humanoid_stand": (6.59, None),
    "humanoid_walk": (1.73, None),
    "pendulum_swingup": (242.81, 245.95),
    "quadruped_run": (180.44, 32.91),
    "quadruped_walk": (239.03, 66.17),
    "reacher_easy": (626.28, 15.51),
    "reacher_hard": (443.80, 9.64),
    "walker_run": (125.92, 10.01),
    "walker_stand": (564.46, 235.22),
    "walker_walk": (392.51, 56.25),
}
# Those that are trained unless --tasks names others, the quick ones first.
CHOSEN = ("cartpole_swingup", "finger_spin", "reacher_easy", "cheetah_run", "ball_in_cup_catch", "walker_walk")
COLUMNS = ("task", "published", "ours", "seeds", "training [h]", "")


class Result(NamedTuple):
    """What one run came to."""

    value: float  # mean return
    hours: float  # of training


def read(folder: Path) -> Result | None:
    """The result of a run; None where it is not evaluated."""
    evaluation, metrics = folder / "evaluation.json", folder / "metrics.jsonl"
    if not evaluation.is_file():
        return None
    seconds = max(json.loads(line)["seconds"] for line in metrics.read_text().splitlines())
    return Result(json.loads(evaluation.read_text())["nominal"]["return"]["value"], seconds / 3600)


def standard_error(values: Sequence[float]) -> float:
    """NaN of a single value."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def verdict(results: Sequence[Result], published: tuple[float, float | None], seeds: int = SEEDS) -> str:
    """Whether the mean is at least the published one less its standard error, which is that of its 10 seeds."""
    if len(results) < seeds:
        return "not yet reproduced"
    mean, deviation = published
    least = mean - (deviation or 0.0) / math.sqrt(PUBLISHED_SEEDS)
    return "reproduced" if np.mean([r.value for r in results]) >= least else "below"


def _row(task: str, results: Sequence[Result], published: tuple[float, float | None]) -> tuple[str, ...]:
    values = [result.value for result in results]
    mean, deviation = published
    theirs = f"{mean:.1f}" + ("" if deviation is None else f" ± {deviation / math.sqrt(PUBLISHED_SEEDS):.1f}")
    spread = f" ± {standard_error(values):.1f}" if len(values) > 1 else ""
    own = f"{np.mean(values):.1f}{spread}" if values else "-"
    hours = f"{sum(result.hours for result in results):.2f}" if values else "-"
    return (task, theirs, own, str(len(values)), hours, verdict(results, published))


def table(results: Mapping[str, Sequence[Result]]) -> str:
    """Markdown, one row per published task; means and standard errors over seeds."""
    rows = [_row(task, results.get(task, ()), published) for task, published in PUBLISHED.items()]
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    total = sum(result.hours for runs in results.values() for result in runs)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{total:.2f} hours of training in all.\n"


def command(task: str, seed: int, folder: Path, further: Sequence[str] = ()) -> list[str]:
    """That trains and evaluates one run, or goes on with it."""
    words = ["train", "--config", f"{CONFIG}:{task}", "--workdir", str(folder), f"--config.training.seed={seed}", *further]
    checkpoints = folder / "checkpoints"
    begun = checkpoints.is_dir() and any(entry.name.isdigit() for entry in checkpoints.iterdir())
    return [sys.executable, "-m", "jaxrl.cli.main", *words, *(["--resume"] if begun else [])]


def _finished(process: "subprocess.Popen[bytes]") -> int:
    """Its exit status. An interruption from the keyboard reaches the run too, which saves itself."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def main() -> int:
    parser = argparse.ArgumentParser(description="Trains what is missing of the baselines, and writes their table.")
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the runs: <workdir>/<task>/<seed>")
    parser.add_argument("--tasks", default=",".join(CHOSEN), help="names with commas between them")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--table", action="store_true", help="train nothing")
    options, further = parser.parse_known_args()
    tasks = [] if options.table else options.tasks.split(",")
    if unknown := [task for task in tasks if task not in PUBLISHED]:
        parser.error(f"no returns of {unknown[0]} are published; there are {', '.join(PUBLISHED)}")
    if wrong := [word for word in further if not word.startswith("--config.")]:
        parser.error(f"unknown argument {wrong[0]}; overrides look like --config.training.total_updates=100")
    failed = []
    for task in tasks:
        for seed in range(options.seeds):
            folder = options.workdir / task / str(seed)
            if read(folder) is not None:
                continue
            print(f"{task}, seed {seed}", flush=True)
            status = _finished(subprocess.Popen(command(task, seed, folder, further)))
            if status == 130:  # interrupted, and saved
                return status
            if status:
                failed.append(str(folder))
    found = {task: [read(options.workdir / task / str(seed)) for seed in range(options.seeds)] for task in PUBLISHED}
    text = table({task: [result for result in runs if result is not None] for task, runs in found.items()})
    options.workdir.mkdir(parents=True, exist_ok=True)
    (options.workdir / "table.md").write_text(text)
    print(text)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
