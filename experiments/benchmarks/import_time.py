"""What `import jaxrl` costs beside `import jax, flax, optax`.

    python experiments/benchmarks/import_time.py

Each import runs in a process of its own, in turns; the time of an empty process is in both. `ratio` is jax, flax and optax over jaxrl;
the bound is at least 0.83 (at most 1.2 times their time). Takes about a minute.
"""

import functools
import statistics
import subprocess
import sys
import time

import harness

REPEATS = 9
IMPORTS = {"jaxrl": "import jaxrl", "jax, flax, optax": "import jax, flax, optax"}


def seconds(statement: str) -> float:
    """Wall-clock time of a process that runs the statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    for statement in IMPORTS.values():  # the first import writes bytecode
        seconds(statement)
    measured = harness.alternate(REPEATS, {name: functools.partial(seconds, statement) for name, statement in IMPORTS.items()})
    ours, theirs = (statistics.median(measured[name]) for name in IMPORTS)
    harness.table([("import", "seconds"), *((name, harness.spread(values, 3)) for name, values in measured.items())])
    harness.report("import_time", theirs / ours, ours, theirs, "s", setup=harness.setup(repeats=REPEATS))


if __name__ == "__main__":
    main()
