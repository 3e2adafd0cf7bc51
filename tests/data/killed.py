"""Writers that are killed: run as `python -m tests.data.killed FORMAT FOLDER`.

For n = 1, 2, ... a child process of its own writes to FOLDER/n and kills itself (-9) just before the n-th file would take its place.
FOLDER/n.added counts the episodes that were added by then. With n = 0 nothing kills the child but the one who called.
"""

import os
import signal
import sys
from pathlib import Path

from jaxrl_data.writer import Writer
from tests.golden.lerobot_written import FEATURES, episode

EPISODES = 3


def writer(kind: str, folder: Path, small: bool = True) -> Writer:
    """Files are joined behind each episode or two if they are to be `small`."""
    if kind == "rlds":
        from jaxrl_data.rlds.writer import rlds_writer

        return rlds_writer(str(folder), "killed", FEATURES, shard_bytes=30_000 if small else 2**30)
    if kind == "apart":
        from jaxrl_data.rlds.writer_apart import rlds_writer_apart

        return rlds_writer_apart(str(folder), "killed", FEATURES)
    from jaxrl_data.lerobot import writer as lerobot

    lerobot.FILES_PER_CHUNK = 2
    return lerobot.lerobot_writer(str(folder), FEATURES, 10, "arm", codec="libx264", data_mb=1e-4 if small else 100)  # type: ignore[arg-type]


def _killed_before(count: int) -> None:
    replace, left = os.replace, [count]

    def counted(*args: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*args)  # type: ignore[arg-type]

    os.replace = counted  # type: ignore[assignment]
    Path.replace = lambda self, target: counted(self, target)  # type: ignore[method-assign,assignment,return-value]


def _write(kind: str, folder: Path, episodes: int) -> None:
    one = writer(kind, folder, small=episodes == EPISODES)
    for place in range(episodes):
        one.add(episode(place % 50))
        folder.with_suffix(".added").write_text(str(place + 1))
    one.close()


def main(kind: str, folder: Path, first: str = "1") -> None:
    if first == "0":
        _write(kind, folder / "0", 10**6)
    if kind == "rlds":
        import tensorflow_datasets  # noqa: F401
    for count in range(1, 100):
        child = os.fork()
        if not child:
            _killed_before(count)
            _write(kind, folder / str(count), EPISODES)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
