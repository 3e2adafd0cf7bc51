"""All heads of imitation on one task, in one table: makes the data, trains what is missing, and writes table.md.

    python experiments/launchers/heads.py two_ways --workdir runs/heads
    python experiments/launchers/heads.py pusht --workdir runs/heads --data pusht_cchi_v7_replay.zarr

`two_ways` records its own demonstrations; those of Push-T are from https://diffusion-policy.cs.columbia.edu/data/training/pusht.zip. Each
head is a run of experiments/imitation_<task>.py in a folder of its own, <workdir>/<task>/<head>, evaluated on the same 100 seeds. `--heads
mse,flow` are some of them; the table holds all that are there. A call that was cut goes on; `--table` trains nothing.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.cli import run as runs
from jaxrl.evaluation.play import play, repeat
from jaxrl.types import SUCCESS

EXPERIMENTS = Path(__file__).parents[1]
NO_POLICY = ("vqbet_codes",)  # of codes alone
EPISODES = 100

Evaluation = Mapping[str, Mapping[str, Any]]


def jaxrl(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "jaxrl.cli.main", *words], check=True)


def recorded(folder: Path, given: str | None) -> str:
    """The demonstrations of a scripted policy, as an override of the config."""
    path = Path(given) if given else folder / "demonstrations.npz"
    if not path.is_file():
        jaxrl("eval", "--config", str(EXPERIMENTS / "scripted_two_ways.py"), "--record", str(path))
    return f"--config.data.path={path}"


def prepared(folder: Path, given: str | None) -> str:
    """The cache of a data set of human demonstrations, as an override of the config."""
    cache = folder / "data"
    if not cache.is_dir():
        if not given:
            raise SystemExit(f"there is no cache {cache} yet; name what it is made of: --data pusht_cchi_v7_replay.zarr")
        jaxrl("data", "prepare", given, "--out", str(cache))
    return f"--config.source.sets.pusht.path={cache}"


def interval(found: Mapping[str, Any], scale: float, form: str) -> str:
    value, low, high = (format(scale * found[name], form) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def success(folder: Path, found: Evaluation) -> str:
    """[%], with Wilson's interval."""
    return interval(found[SUCCESS], 100.0, ".0f")


def reward(folder: Path, found: Evaluation) -> str:
    """The best of each episode, its mean."""
    return interval(found["return"], 1.0, ".3f")


def sides(folder: Path, found: Evaluation) -> str:
    """Successes past the post on its left, and on its right."""
    loaded = runs.load(folder)
    run = play(loaded.env, loaded.algorithm.policy, keep=lambda step: step.result.metrics, num_episodes=EPISODES)
    played = jax.device_get(run(loaded.params, repeat(loaded.env.nominal, EPISODES), jax.random.key(5)))
    last = np.maximum(played.alive.sum(0) - 1, 0), np.arange(EPISODES)
    won, left = (played.kept[name][last] > 0 for name in (SUCCESS, "left"))
    return f"{(won & left).sum()} / {(won & ~left).sum()}"


class Task(NamedTuple):
    data: Callable[[Path, str | None], str]
    columns: dict[str, Callable[[Path, Evaluation], str]]


TASKS = {
    "two_ways": Task(recorded, {"success [%]": success, "left / right, of 100 others": sides}),
    "pusht": Task(prepared, {"best reward, mean": reward, "success [%]": success}),
}


def loaded(config: Path) -> ModuleType:
    """An experiment: its HEADS, and FIRST, the run that a head begins from."""
    spec = importlib.util.spec_from_file_location(config.stem, config)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train(config: Path, first: Mapping[str, str], head: str, folder: Path, overrides: list[str]) -> None:
    """Unless it is trained already; what it begins from, before it."""
    own = folder / head
    if (own / (runs.METRICS if head in NO_POLICY else runs.EVALUATION)).is_file():
        return
    if head in first:
        train(config, first, first[head], folder, overrides)
        overrides = [*overrides, f"--config.pretrained={folder / first[head]}"]
    checkpoints = own / runs.CHECKPOINTS
    begun = checkpoints.is_dir() and any(entry.name.isdigit() for entry in checkpoints.iterdir())
    further = [*(["--resume"] if begun else []), *(["--skip-evaluation"] if head in NO_POLICY else [])]
    jaxrl("train", "--config", f"{config}:{head}", "--workdir", str(own), *overrides, *further)


def table(task: Task, folder: Path, known: list[str]) -> str:
    """Markdown: a row for each head that is evaluated."""
    rows = [("head", *task.columns, "updates", "training [min]")]
    rows.append(tuple("---" for _ in rows[0]))
    for head in known:
        own = folder / head
        if not (own / runs.EVALUATION).is_file():
            continue
        found = json.loads((own / runs.EVALUATION).read_text())["nominal"]
        lines = [json.loads(line) for line in (own / runs.METRICS).read_text().splitlines()]
        updates, seconds = (max(line[name] for line in lines) for name in ("update", "seconds"))
        rows.append((f"`{head}`", *(of(own, found) for of in task.columns.values()), f"{updates:,}", f"{seconds / 60:.1f}"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--data", help="the demonstrations, where they are not made here")
    parser.add_argument("--heads", help="names with commas between them")
    parser.add_argument("--table", action="store_true", help="train nothing")
    options = parser.parse_args()
    task, folder, config = TASKS[options.task], options.workdir / options.task, EXPERIMENTS / f"imitation_{options.task}.py"
    experiment = loaded(config)
    known = list(experiment.HEADS)
    chosen = options.heads.split(",") if options.heads else [head for head in known if head not in NO_POLICY]
    if unknown := [head for head in chosen if head not in known]:
        parser.error(f"there is no head {unknown[0]!r}; there are {', '.join(known)}")
    if not options.table:
        overrides = [task.data(folder, options.data), f"--config.evaluation.num_episodes={EPISODES}"]
        for head in chosen:
            train(config, experiment.FIRST, head, folder, overrides)
    text = table(task, folder, known)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
