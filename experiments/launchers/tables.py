"""Returns of the control suite beside published ones: trains what is missing of a table, then writes it.

Command: python experiments/launchers/tables.py ppo --workdir runs/tables            (or sac, or simba; see published.py)
Each task and seed is a run of `jaxrl train` in a folder of its own, <workdir>/<table>/<task>/<seed>. The command may be cut at any time:
called again, it skips the runs that are evaluated and goes on with those that were cut; a run with fewer updates than its file asks for
counts as cut. `--jobs 2` trains two at once, each on its
share of the cores. `--table` trains nothing. Beside the table lies a picture of each task's learning curves.

Ours: 50 episodes per seed of the policy's mode.
"""

import argparse
import datetime
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
from published import TABLES, Return, Table

from jaxrl.config import load
from jaxrl.evaluation.curves import learning_curve
from jaxrl.evaluation.statistics import interquartile_interval
from jaxrl.ops.cores import cores

EXPERIMENTS = Path(__file__).parents[1]
SEEDS = 3
COLUMNS = ("task", "published", "ours", "seeds", "training [h]", "date", "")
INTERRUPTED = 130  # exit status of a run that saved itself


class Result(NamedTuple):
    """What one run came to."""

    value: float  # mean return
    hours: float  # of training
    date: str  # of the evaluation


def read(folder: Path, updates: int) -> Result | None:
    """The result of a run; None where it is not evaluated, or has not made as many updates as its config asks for."""
    evaluation, metrics = folder / "evaluation.json", folder / "metrics.jsonl"
    if not evaluation.is_file():
        return None
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    if max(line["update"] for line in lines) < updates:
        return None
    date = datetime.date.fromtimestamp(evaluation.stat().st_mtime).isoformat()
    value = json.loads(evaluation.read_text())["nominal"]["return"]["value"]
    return Result(value, max(line["seconds"] for line in lines) / 3600, date)


def standard_error(values: Sequence[float]) -> float:
    """NaN of a single value."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def verdict(table: Table, task: str, results: Sequence[Result], seeds: int = SEEDS) -> str:
    """Whether the mean is at least the published one, less the table's margin of standard errors of their difference."""
    if len(results) < seeds:
        return "not yet reproduced"
    mean, error = quoted(table, task)
    values = [result.value for result in results]
    allowed = table.margin * math.hypot(error, standard_error(values)) if table.margin else 0.0
    return "reproduced" if np.mean(values) >= mean - allowed else "below"


def quoted(table: Table, task: str) -> Return:
    """Mean and standard error; that of a mean without a deviation is 0."""
    mean, deviation = table.published[task]
    return mean, (deviation or 0.0) / math.sqrt(table.seeds)


def _row(table: Table, task: str, results: Sequence[Result]) -> tuple[str, ...]:
    values = [result.value for result in results]
    mean, error = quoted(table, task)
    theirs = f"{mean:.1f}" + (f" ± {error:.1f}" if table.published[task][1] is not None else "")
    spread = f" ± {standard_error(values):.1f}" if len(values) > 1 else ""
    own = f"{np.mean(values):.1f}{spread}" if values else "-"
    hours = f"{sum(result.hours for result in results):.2f}" if values else "-"
    date = max((result.date for result in results), default="-")
    return (task, theirs, own, str(len(values)), hours, date, verdict(table, task, results))


def written(table: Table, results: Mapping[str, Sequence[Result]]) -> str:
    """Markdown, one row per published task; means and standard errors over seeds."""
    rows = [_row(table, task, results.get(task, ())) for task in table.published]
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    made = [[result.value for result in runs] for runs in results.values() if len(runs) >= SEEDS]
    hours = sum(result.hours for runs in results.values() for result in runs)
    foot = [f"{hours:.2f} hours of training in all."]
    if made:
        foot.append(f"Interquartile mean of {sum(map(len, made))} runs: {interquartile_interval(made)}.")
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n" + " ".join(foot) + "\n"


class Run(NamedTuple):
    """One task and seed."""

    task: str
    seed: int
    folder: Path


def command(table: Table, run: Run, further: Sequence[str] = ()) -> list[str]:
    """That trains and evaluates one run, or goes on with it."""
    config = f"{EXPERIMENTS / table.config}:{run.task}"
    words = ["train", "--config", config, "--workdir", str(run.folder), f"--config.training.seed={run.seed}", *further]
    checkpoints = run.folder / "checkpoints"
    begun = checkpoints.is_dir() and any(entry.name.isdigit() for entry in checkpoints.iterdir())
    return [sys.executable, "-m", "jaxrl.cli.main", *words, *(["--resume"] if begun else [])]


class _Job(NamedTuple):
    run: Run
    process: "subprocess.Popen[bytes]"
    cores: list[int]


def _start(table: Table, run: Run, further: Sequence[str], cores: list[int], quiet: bool) -> _Job:
    run.folder.mkdir(parents=True, exist_ok=True)
    log = run.folder / "log.txt"
    print(f"{run.task}, seed {run.seed}" + (f": {log}" if quiet else ""), flush=True)
    words = command(table, run, further)
    with log.open("ab") if quiet else nullcontext() as out, _on(cores):
        return _Job(run, subprocess.Popen(words, stdout=out, stderr=out), cores)


@contextmanager
def _on(cores: list[int]) -> Iterator[None]:
    """What is started meanwhile runs on these cores alone, where the system can tell it so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _ends(live: list[_Job]) -> Iterator[tuple[_Job, int]]:
    """Those that have ended, with their exit status."""
    for job in list(live):
        status = job.process.poll()
        if status is not None:
            live.remove(job)
            yield job, status


def train(table: Table, waiting: list[Run], jobs: int, further: Sequence[str]) -> tuple[list[Run], bool]:
    """Trains all, `jobs` at once; those that failed, and whether it was interrupted.

    An interruption from the keyboard reaches the runs too, which save themselves; no other is started.
    """
    own = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(cores()))
    free = [[int(core) for core in share] for share in np.array_split(own, jobs)]
    live: list[_Job] = []
    failed, interrupted, waiting = [], False, list(waiting)
    while live or (waiting and not interrupted):
        try:
            while waiting and free and not interrupted:
                live.append(_start(table, waiting.pop(0), further, free.pop(0), quiet=jobs > 1))
            for job, status in _ends(live):
                free.append(job.cores)
                interrupted |= status == INTERRUPTED
                failed += [job.run] if status not in (0, INTERRUPTED) else []
            time.sleep(0.2)
        except KeyboardInterrupt:
            interrupted = True
    return failed, interrupted


def _draw(folder: Path, task: str, runs: Sequence[Run], updates: int) -> None:
    """The learning curves of a task's seeds that are evaluated, with their mean."""
    files = [run.folder / "metrics.jsonl" for run in runs if read(run.folder, updates) is not None]
    if files:
        learning_curve(files, folder / f"{task}.png", ["episode/return"], title=task)


def main() -> int:
    parser = argparse.ArgumentParser(description="Trains what is missing of a table, and writes it.")
    parser.add_argument("table_name", metavar="table", choices=list(TABLES), help=", ".join(TABLES))
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the tables: runs are in <workdir>/<table>/<task>/<seed>")
    parser.add_argument("--tasks", help="names with commas between them")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, each on its share of the cores")
    parser.add_argument("--table", action="store_true", help="train nothing")
    options, further = parser.parse_known_args()
    table, folder = TABLES[options.table_name], options.workdir / options.table_name
    tasks = options.tasks.split(",") if options.tasks else table.chosen
    if unknown := [task for task in tasks if task not in table.published]:
        parser.error(f"no returns of {unknown[0]} are published; there are {', '.join(table.published)}")
    if wrong := [word for word in further if not word.startswith("--config.")]:
        parser.error(f"unknown argument {wrong[0]}; overrides look like --config.training.total_updates=100")
    if not 1 <= options.jobs <= cores():
        parser.error(f"--jobs {options.jobs}: there are {cores()} cores, and each job needs one")
    runs = {task: [Run(task, seed, folder / task / str(seed)) for seed in range(options.seeds)] for task in table.published}
    updates = {task: load(f"{EXPERIMENTS / table.config}:{task}").training.total_updates for task in runs}
    missing = [] if options.table else [run for task in tasks for run in runs[task] if read(run.folder, updates[task]) is None]
    failed, interrupted = train(table, missing, options.jobs, further)
    if interrupted:
        return INTERRUPTED
    found = {task: [read(run.folder, updates[task]) for run in those] for task, those in runs.items()}
    text = written(table, {task: [result for result in results if result is not None] for task, results in found.items()})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(text)
    for task, those in runs.items():
        _draw(folder, task, those, updates[task])
    print(text)
    if failed:
        print(f"failed: {', '.join(str(run.folder) for run in failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
