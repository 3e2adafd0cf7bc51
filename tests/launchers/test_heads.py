"""The command that makes the tables of imitation: what it tells of runs that are there, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "experiments" / "launchers" / "heads.py"


def make(*words):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True, check=False)


def write_run(folder, reward, successes):
    folder.mkdir(parents=True)
    found = {"return": {"value": reward, "low": reward - 0.02, "high": reward + 0.02, "n": 100}}
    found["success"] = {"value": successes, "low": successes - 0.1, "high": successes + 0.1, "n": 100}
    (folder / "evaluation.json").write_text(json.dumps({"nominal": found}))
    lines = [{"kind": "training", "update": k, "seconds": s} for k, s in ((200, 5.0), (20_000, 720.0))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_table_has_the_heads_that_are_evaluated(tmp_path):
    write_run(tmp_path / "pusht" / "flow", 0.9, 0.6)
    write_run(tmp_path / "pusht" / "mse", 0.7, 0.2)
    (tmp_path / "pusht" / "vqbet_codes").mkdir()
    made = make("pusht", "--workdir", tmp_path, "--table")
    assert made.returncode == 0, made.stderr
    rows = (tmp_path / "pusht" / "table.md").read_text().splitlines()
    assert rows[2:] == [
        "| `mse` | 0.700 [0.680, 0.720] | 20 [10, 30] | 20,000 | 12.0 |",
        "| `flow` | 0.900 [0.880, 0.920] | 60 [50, 70] | 20,000 | 12.0 |",
    ]


def test_what_is_refused(tmp_path):
    unknown = make("pusht", "--workdir", tmp_path, "--heads", "mse,nothing", "--table")
    assert unknown.returncode == 2 and "there is no head 'nothing'; there are mse" in unknown.stderr
    without = make("pusht", "--workdir", tmp_path)
    assert without.returncode == 1 and "name what it is made of: --data" in without.stderr
