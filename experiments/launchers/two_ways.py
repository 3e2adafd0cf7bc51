"""All heads on the task that tells them apart: how often each reaches the target, and how often on which side of the post.

    python experiments/launchers/two_ways.py --workdir runs/two_ways

Records the demonstrations, trains what is missing (experiments/imitation_two_ways.py), each head in a folder of its own, plays 100 episodes
of each and writes table.md. `--heads mse,flow` are some of them. A call that was cut goes on.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from jaxrl.cli import run as runs
from jaxrl.evaluation.play import play, repeat
from jaxrl.evaluation.statistics import rate_interval
from jaxrl.types import SUCCESS

EXPERIMENTS = Path(__file__).parents[1]
CONFIG = EXPERIMENTS / "imitation_two_ways.py"
EPISODES, SEED = 100, 5


def heads() -> list[str]:
    """Those of the experiment."""
    spec = importlib.util.spec_from_file_location("imitation_two_ways", CONFIG)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.HEADS)


def jaxrl(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "jaxrl.cli.main", *words], check=True)


def train(head: str, folder: Path, demonstrations: Path) -> None:
    """Unless it is trained already."""
    if (folder / runs.EVALUATION).is_file():
        return
    checkpoints = folder / runs.CHECKPOINTS
    begun = checkpoints.is_dir() and any(entry.name.isdigit() for entry in checkpoints.iterdir())
    data = f"--config.data.path={demonstrations}"
    jaxrl("train", "--config", f"{CONFIG}:{head}", "--workdir", str(folder), data, *(["--resume"] if begun else []))


def sides(folder: Path) -> tuple[int, int]:
    """Successes past the post at positive y, and at negative y."""
    loaded = runs.load(folder)
    run = play(loaded.env, loaded.algorithm.policy, keep=lambda step: step.result.metrics, num_episodes=EPISODES)
    played = jax.device_get(run(loaded.params, repeat(loaded.env.nominal, EPISODES), jax.random.key(SEED)))
    last = np.maximum(played.alive.sum(0) - 1, 0), np.arange(EPISODES)
    won, left = (played.kept[name][last] > 0 for name in (SUCCESS, "left"))
    return int((won & left).sum()), int((won & ~left).sum())


def seconds(folder: Path) -> float:
    """Of training."""
    return max(json.loads(line)["seconds"] for line in (folder / runs.METRICS).read_text().splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--heads", default=",".join(heads()))
    options = parser.parse_args()
    chosen = options.heads.split(",")
    if unknown := [head for head in chosen if head not in heads()]:
        parser.error(f"there is no head {unknown[0]!r}; there are {', '.join(heads())}")
    demonstrations = options.workdir / "demonstrations.npz"
    if not demonstrations.is_file():
        jaxrl("eval", "--config", str(EXPERIMENTS / "scripted_two_ways.py"), "--record", str(demonstrations))
    rows = ["| head | success of 100 | left | right | training [s] |", "|---|---|---|---|---|"]
    for head in chosen:
        folder = options.workdir / head
        train(head, folder, demonstrations)
        left, right = sides(folder)
        _, low, high, _ = rate_interval(left + right, EPISODES)
        rate = f"{left + right} % [{100 * low:.1f}, {100 * high:.1f}]"
        rows.append(f"| `{head}` | {rate} | {left} | {right} | {seconds(folder):.0f} |")
    text = "\n".join(rows) + "\n"
    (options.workdir / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
