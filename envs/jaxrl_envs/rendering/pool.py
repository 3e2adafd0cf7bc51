"""Pictures of many worlds at once, on all cores.

An OpenGL context belongs to one thread, so each renderer has a thread of its own, which makes it, draws with it and closes it. MuJoCo
releases Python's lock while it draws, and Mesa draws in the calling thread (see `opengl`): the threads run side by side.
"""

import atexit
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue

import mujoco
import numpy as np
from numpy.typing import NDArray

from jaxrl.ops.cores import cores
from jaxrl_envs.rendering import renderer
from jaxrl_envs.rendering.renderer import Renderer, Rows

_Job = Callable[[Renderer], None]


class _Worker:
    """A thread with its renderer."""

    def __init__(self, make: Callable[[], Renderer]):
        self._jobs: SimpleQueue[tuple[_Job, Future[None]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(make,), name="renderer", daemon=True)
        self._thread.start()

    def _run(self, make: Callable[[], Renderer]) -> None:
        made: Renderer | None = None
        while (job := self._jobs.get()) is not None:
            task, result = job
            try:
                made = made or make()
                task(made)
                result.set_result(None)
            except BaseException as error:  # whatever it is, it belongs to the one who waits
                result.set_exception(error)
        if made is not None:
            made.close()

    def submit(self, task: _Job) -> Future[None]:
        result: Future[None] = Future()
        self._jobs.put((task, result))
        return result

    def stop(self) -> None:
        """Lets the thread end, after what it was given to do."""
        self._jobs.put(None)

    def join(self) -> None:
        self._thread.join()


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.stop()


def _end(workers: list[_Worker]) -> None:
    _stop(workers)
    for worker in workers:
        worker.join()
    workers.clear()


class Pool:
    """Renderers of one model in the quality of training, as many as `threads` (by default as there are cores), made at the first call.

    Closed at exit. What it holds does not grow with the number of worlds.

    Raises:
        ValueError: the model has no such camera.
    """

    def __init__(self, model: mujoco.MjModel, cameras: Sequence[str], width: int, height: int, threads: int | None = None):
        self._views = [renderer.camera(model, name) for name in cameras]
        self._make = lambda: Renderer(model, width, height, renderer.TRAINING)
        self._threads = threads or cores()
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()

    def _started(self) -> list[_Worker]:
        with self._lock:
            if not self._workers:
                self._workers.extend(_Worker(self._make) for _ in range(self._threads))
                for opened in [worker.submit(lambda renderer: None) for worker in self._workers]:
                    opened.result()
                # Now, not before: what ends EGL at exit was registered by the first context, and the last registered runs first.
                atexit.register(_end, self._workers)
                weakref.finalize(self, _stop, list(self._workers)).atexit = False
            return self._workers

    def draw(self, pose: Rows, fields: Rows, out: Sequence[NDArray[np.uint8]]) -> None:
        """Writes `out[k]`, [N, height, width, 3], from N rows of fields of MjData and of MjModel, as the k-th camera sees them.

        A row's picture depends on that row alone. Rows that are not finite are black. May be called from several threads.

        Raises:
            RuntimeError: there is no OpenGL; the message says what to install.
        """
        workers, count = self._started(), len(out[0])
        shares = min(len(workers), count)
        edges = [count * i // shares for i in range(shares + 1)]

        def share(begin: int, end: int) -> _Job:
            def cut(rows: Rows) -> Rows:
                return {name: values[begin:end] for name, values in rows.items()}

            return lambda drawing: drawing.draw(cut(pose), cut(fields), self._views, [pictures[begin:end] for pictures in out])

        waiting = [workers[i].submit(share(edges[i], edges[i + 1])) for i in range(shares)]
        for result in waiting:
            result.result()

    def close(self) -> None:
        """Ends the threads and frees what they hold. The next call of `draw` begins anew."""
        with self._lock:
            _end(self._workers)
