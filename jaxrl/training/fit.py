"""The one loop: take a batch from the source, update, tell the source, again.

Many updates are one compiled call that is compiled once. Reinforcement and imitation learning differ only in what is handed in.
"""

import contextlib
import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrl.ops.specs import batch_shapes, check_spec
from jaxrl.training.callbacks import Callback, Report
from jaxrl.training.checkpoint import Checkpoints
from jaxrl.training.memory_plan import memory_plan
from jaxrl.training.metrics import NonFinite, check_finite, to_host
from jaxrl.types import Algorithm, Key, Metrics, Params, PyTree, Source, TrainState


@dataclass(frozen=True)
class Config:
    """`updates_per_call` updates run between two looks at the metrics, where evaluations and checkpoints fall too.

    0 turns these off (`evaluate_every`, `checkpoint_seconds`); the last state is always saved, and one whose evaluation is the best so far.
    """

    total_updates: int = 100
    updates_per_call: int = 10
    seed: int = 0
    num_seeds: int = 1
    evaluate_every: int = 0  # updates
    checkpoint_seconds: float = 60.0
    on_non_finite: Literal["stop", "rollback"] = "stop"
    max_rollbacks: int = 3

    def __post_init__(self) -> None:
        for name in ("total_updates", "updates_per_call", "num_seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for name in ("total_updates", "evaluate_every"):
            if getattr(self, name) % self.updates_per_call:
                raise ValueError(f"{name} is {getattr(self, name)}, no multiple of updates_per_call, {self.updates_per_call}")


class Run(NamedTuple):
    """What a run is between two calls; with several seeds every leaf has a leading axis of them."""

    train_state: TrainState
    source_state: PyTree


class Result(NamedTuple):
    run: Run
    update: int  # updates made
    seconds: float  # of training, earlier parts of a resumed run included
    interrupted: bool  # a signal asked for the end


def run_keys(config: Config, rollbacks: int = 0) -> Key:
    """The keys of the seeds, [num_seeds]. A rollback goes on with other randomness than what led to it."""
    seeds = config.seed + jnp.arange(config.num_seeds)
    keys = jax.vmap(jax.random.key)(seeds)
    return jax.vmap(jax.random.fold_in, (0, None))(keys, rollbacks) if rollbacks else keys


def initial(algorithm: Algorithm, source: Source, pretrained: Params | None = None) -> Callable[[Key], Run]:
    """key -> the run before its first update."""

    def init(key: Key) -> Run:
        learn, collect = jax.random.split(key)
        train_state = algorithm.init(learn, pretrained)
        return Run(train_state, source.init(collect, algorithm.behaviour(train_state)))

    return init


def one_update(algorithm: Algorithm, source: Source) -> Callable[[Run, Key], tuple[Run, Metrics]]:
    """(run, run key) -> the run after one update, and its metrics. All randomness follows from the key and the step."""

    def update(run: Run, key: Key) -> tuple[Run, Metrics]:
        collect, learn = jax.random.split(jax.random.fold_in(key, run.train_state.step))
        source_state, batch = source.next(run.source_state, algorithm.behaviour(run.train_state), collect)
        train_state, metrics, feedback = algorithm.update(run.train_state, batch, learn)
        return Run(train_state, source.observe(source_state, feedback)), metrics

    return update


def many_updates(algorithm: Algorithm, source: Source, length: int) -> Callable[[Run, Key], tuple[Run, Metrics]]:
    """(run, run key) -> the run after `length` updates, and their mean metrics with those of the source."""
    update = one_update(algorithm, source)

    def updates(run: Run, key: Key) -> tuple[Run, Metrics]:
        run, metrics = jax.lax.scan(lambda run, _: update(run, key), run, length=length)
        return run, summary(run, jax.tree.map(lambda x: x.mean(0), metrics), source)

    return updates


def summary(run: Run, metrics: Metrics, source: Source) -> Metrics:
    """Metrics with those of the source; the norm of the parameters is not finite as soon as one of them is not."""
    return metrics | {"parameter_norm": optax.tree.norm(run.train_state.params)} | source.metrics(run.source_state)


def _for_seeds(config: Config, function: Callable) -> Callable:
    """`function` with the keys of all seeds as its last argument: mapped over several, or given the only one."""
    if config.num_seeds > 1:
        return jax.vmap(function)

    @functools.wraps(function)  # keeps the name: compiled programs bear it
    def only(*args: Any) -> Any:
        return function(*args[:-1], args[-1][0])

    return only


ONE_SEED = "num_seeds above 1 needs a pure source: a host source runs outside the compiled program"


class Program(NamedTuple):
    """A run before its first update, and its call. A call takes the buffers of the run it is given."""

    run: Run
    call: Callable[[Run, Key], tuple[Run, Metrics]]  # (run, keys) -> the run `updates_per_call` later, mean metrics


Sharded = Callable[[TrainState], PyTree]  # the shapes of a train state -> where each of its arrays lies on a mesh


def compile_program(
    config: Config, algorithm: Algorithm, source: Source, keys: Key, mesh: Mesh | None = None, sharded: Sharded | None = None
) -> Program:
    """Compiles both parts of a run, side by side; on a mesh the train state lies as `sharded` says, by default whole on every device.

    Raises:
        ValueError: several seeds are asked of a host source.
    """
    everywhere: Any = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    begin = _for_seeds(config, initial(algorithm, source))
    if not source.pure:
        return _on_host(config, algorithm, source, keys, everywhere, sharded)
    lies = sharded(jax.eval_shape(begin, keys).train_state) if sharded is not None else everywhere
    init = jax.jit(begin, out_shardings=everywhere and Run(lies, None)).trace(keys)
    updates = _for_seeds(config, many_updates(algorithm, source, config.updates_per_call))
    if mesh is not None:
        run = init.lower().compile()(keys)
        # The run comes out as it goes in, on a mesh too, so that one program serves all calls.
        shardings = (jax.tree.map(lambda x: x.sharding, run), None)
        return Program(run, jax.jit(updates, donate_argnums=0, out_shardings=shardings).lower(run, keys).compile())
    call = jax.jit(updates, donate_argnums=0).trace(init.out_info, keys)  # numbers that do not fit fail here, before any compilation
    with ThreadPoolExecutor(1) as other:
        started = other.submit(lambda: init.lower().compile()(keys))
        compiled = call.lower().compile()
        return Program(started.result(), compiled)


def _trace_on_host(algorithm: Algorithm, source: Source, key: Key) -> None:
    """Raises what an update has to say about its batches, before any step is made."""
    batch = batch_shapes(source.spec)
    if batch is not None:
        jax.eval_shape(lambda key, batch: algorithm.update(algorithm.init(key), batch, key), key, batch)


def _sharing(mesh: Mesh | None) -> Any:
    """Within it, programs that are traced know of the mesh that shares out rows (`ops.placement`)."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def _on_host(config: Config, algorithm: Algorithm, source: Source, keys: Key, everywhere: Any, sharded: Sharded | None) -> Program:
    """The same with a source that is called from Python; on a mesh it is the source that shares out its batches."""
    if config.num_seeds > 1:
        raise ValueError(ONE_SEED)
    _trace_on_host(algorithm, source, keys[0])
    lies = sharded(jax.eval_shape(algorithm.init, keys[0])) if sharded is not None else everywhere
    algorithm = algorithm._replace(
        init=jax.jit(algorithm.init, out_shardings=lies),
        update=jax.jit(algorithm.update, donate_argnums=0, out_shardings=everywhere and (lies, everywhere, None)),
    )
    update = one_update(algorithm, source)

    def call(run: Run, keys: Key) -> tuple[Run, Metrics]:
        means: Metrics = {}
        before: Metrics = {}
        for _ in range(config.updates_per_call):
            run, metrics = update(run, keys[0])
            jax.block_until_ready(before)  # one update ahead and no more, or batches would pile up on the device
            before = metrics
            means = {name: means.get(name, 0.0) + value / config.updates_per_call for name, value in metrics.items()}
        return run, summary(run, means, source)

    return Program(initial(algorithm, source)(keys[0]), call)


@contextlib.contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether SIGINT or SIGTERM has come; a second SIGINT interrupts at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def note(number: int, frame: Any) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Extras(NamedTuple):
    """What a run may have beside its loop."""

    callback: Callback | None = None
    checkpoints: Checkpoints | None = None
    meta: dict[str, Any] = {}  # plain JSON that goes into every checkpoint: config, spec, versions
    evaluate: Callable[[Params], Metrics] | None = None  # deployable parameters -> metrics
    score: str | None = None
    # The metric by which the best checkpoint is kept, of evaluations where there are any, else of training; after "-" low ones are best.
    crash_directory: Path | None = None  # where the state goes in which something was not finite
    say: Callable[[str], None] = lambda text: None  # takes lines about what happens
    sharded: Sharded | None = None  # where on the mesh each part of the train state lies; by default all of it is on every device


NO_EXTRAS = Extras()


class _Clock(NamedTuple):
    """How far a run is."""

    update: int = 0
    seconds: float = 0.0  # of training, without evaluation and compilation; what a rollback threw away counts
    rollbacks: int = 0


def _env_steps(config: Config, source: Source, updates: int) -> int:
    """Of all seeds, those before the first update included."""
    return (source.initial_steps + updates * source.steps_per_batch) * config.num_seeds


def _save(config: Config, extras: Extras, source: Source, run: Run, clock: _Clock, scores: dict[str, float]) -> None:
    if extras.checkpoints is not None and clock.update not in extras.checkpoints.steps():
        meta = extras.meta | clock._asdict() | {"env_steps": _env_steps(config, source, clock.update)}
        extras.checkpoints.save(clock.update, run._asdict(), meta, _scored(extras, scores))


def _scored(extras: Extras, scores: dict[str, float]) -> float | None:
    """The score among these, the higher the better; None where it is not."""
    name = extras.score or ""
    found = scores.get(name.removeprefix("-"))
    return -found if found is not None and name.startswith("-") else found


def _check_score(extras: Extras, scores: dict[str, float]) -> None:
    """Raises ValueError where the score is none of what is reported."""
    if extras.score is not None and _scored(extras, scores) is None:
        names = ", ".join(sorted(name for name in scores if "/seed_" not in name))
        raise ValueError(f"the score is {extras.score}, which is not reported; choose among {names}")


def _leads(extras: Extras, scores: dict[str, float]) -> bool:
    """Whether this evaluation is better than that of every checkpoint."""
    score = _scored(extras, scores)
    return score is not None and extras.checkpoints is not None and extras.checkpoints.would_be_best(score)


def _restore(extras: Extras, like: Run) -> tuple[Run, _Clock]:
    """The latest checkpoint, shaped and sharded like a run."""
    if extras.checkpoints is None:
        raise ValueError("there is nothing to resume: the run keeps no checkpoints")
    parts, meta = extras.checkpoints.restore(like._asdict())
    return Run(**parts), _Clock(meta["update"], meta["seconds"], meta["rollbacks"])


def _report(extras: Extras, config: Config, source: Source, clock: _Clock, metrics: dict[str, float], kind: str) -> None:
    if extras.callback is not None:
        done, total = (_env_steps(config, source, update) for update in (clock.update, config.total_updates))
        extras.callback.write(Report(clock.update, config.total_updates, done, total, clock.seconds, metrics, kind))


def _roll_back(config: Config, extras: Extras, fault: NonFinite, like: Run, clock: _Clock) -> tuple[Run, _Clock]:
    """The latest checkpoint, to go on from with other randomness; raises the fault where that is not wanted or does not help."""
    if config.on_non_finite == "stop":
        raise fault
    if extras.checkpoints is None or extras.checkpoints.latest() is None:
        raise NonFinite(f"{fault}; not rolled back: there is no checkpoint") from fault
    if clock.rollbacks >= config.max_rollbacks:
        raise NonFinite(f"{fault}; not rolled back again: max_rollbacks is {config.max_rollbacks}") from fault
    run, saved = _restore(extras, like)
    extras.say(f"{fault}; rolled back to update {saved.update}")
    return run, saved._replace(seconds=clock.seconds, rollbacks=clock.rollbacks + 1)


def _plan(config: Config, source: Source, mesh: Mesh | None) -> list[str]:
    """What the run is going to allocate, in lines. Raises ValueError where that is more than there is."""
    return memory_plan(source.allocation, config.num_seeds, 1 if mesh is None else mesh.shape["data"])


def check(config: Config, algorithm: Algorithm, source: Source, mesh: Mesh | None = None) -> None:
    """Traces a run without compiling it.

    Raises:
        ValueError: source and algorithm do not fit, would fill more than the memory there is, or numbers do not divide.
    """
    check_spec(algorithm.batch_spec, source.spec, needs="the algorithm", offers="the source")
    _plan(config, source, mesh)
    if not source.pure:
        if config.num_seeds > 1:
            raise ValueError(ONE_SEED)
        _trace_on_host(algorithm, source, run_keys(config)[0])
    else:
        call, init = (_for_seeds(config, f) for f in (many_updates(algorithm, source, 1), initial(algorithm, source)))
        jax.eval_shape(lambda keys: call(init(keys), keys), run_keys(config))


def fit(
    config: Config, algorithm: Algorithm, source: Source, extras: Extras = NO_EXTRAS, mesh: Mesh | None = None, resume: bool = False
) -> Result:
    """Trains for `total_updates`, or from the latest checkpoint up to them; SIGINT or SIGTERM ends it early, with a checkpoint.

    On a mesh the train state lies as `extras.sharded` says, and the source shares out the batch.

    Raises:
        ValueError: source and algorithm do not fit, or would fill more than the memory there is; there is nothing to resume, or the score
            is not reported.
        NonFinite: a metric or parameter is not finite. The state that it was found in is saved beside the checkpoints.
    """
    check_spec(algorithm.batch_spec, source.spec, needs="the algorithm", offers="the source")
    for line in _plan(config, source, mesh):
        extras.say(line)
    try:
        return _train(config, algorithm, source, extras, mesh, resume)
    finally:
        source.close()


def _train(config: Config, algorithm: Algorithm, source: Source, extras: Extras, mesh: Mesh | None, resume: bool) -> Result:
    """The loop itself."""
    began = time.perf_counter()
    keys, clock = run_keys(config), _Clock()
    begins = source._replace(init=source.empty or source.init) if resume else source
    sharing = functools.partial(_sharing, mesh if extras.sharded else None)
    with sharing():
        run, call = compile_program(config, algorithm, begins, keys, mesh, extras.sharded)
    if resume:
        run, clock = _restore(extras, run)
        keys = run_keys(config, clock.rollbacks)
    extras.say(f"ready after {time.perf_counter() - began:.1f} s")
    deployable = jax.vmap(algorithm.deployable) if config.num_seeds > 1 else algorithm.deployable
    saved_at = time.perf_counter()
    scores: dict[str, float] = {}
    if config.on_non_finite == "rollback":
        _save(config, extras, source, run, clock, scores)  # something to go back to from the first update on

    with stop_request() as stopping:
        while clock.update < config.total_updates and not stopping():
            began = time.perf_counter()
            with sharing():
                run, on_device = call(run, keys)
            new = to_host(on_device)
            spent = time.perf_counter() - began
            clock = clock._replace(update=clock.update + config.updates_per_call, seconds=clock.seconds + spent)
            try:
                check_finite(new, clock.update, extras.crash_directory, run._asdict())
            except NonFinite as fault:
                run, clock = _roll_back(config, extras, fault, run, clock)
                keys = run_keys(config, clock.rollbacks)
                continue
            _report(extras, config, source, clock, new, "training")
            leads, scores = False, {}  # a checkpoint has the score of its own state, or none
            if extras.evaluate is None or not config.evaluate_every:
                scores = new
            elif clock.update % config.evaluate_every == 0:
                scores = to_host(extras.evaluate(deployable(run.train_state)))
                _report(extras, config, source, clock, scores, "evaluation")
                leads = _leads(extras, scores)
            if scores:
                _check_score(extras, scores)
            if leads or time.perf_counter() - saved_at >= config.checkpoint_seconds > 0:
                _save(config, extras, source, run, clock, scores)
                saved_at = time.perf_counter()
        interrupted = stopping()
    _save(config, extras, source, run, clock, scores)
    if extras.checkpoints is not None:
        extras.checkpoints.wait()
    return Result(run, clock.update, clock.seconds, interrupted)
