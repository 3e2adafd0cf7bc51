"""pi0: seconds of a train step, and of a sample of ten steps.

    python experiments/benchmarks/vla_step.py                 # what two cores can do: SigLIP So400m/14, and transformers of width 64
    python experiments/benchmarks/vla_step.py --size 3b       # the whole of it, on a GPU: p50 and p99 of samples, and MFU

Three cameras of 224 x 224, 48 tokens of text and a state in, a chunk of 10 (50) actions of 32 numbers out. A train step is an update of
`supervised`: gradients and AdamW of all parameters, on a batch that lies on the device. A sample is one call of the policy, of a batch too
(of one robot with `--size 3b`), from pictures to a chunk. Types are measured in turns. There is no peer in this environment, so `ratio` and
`theirs` are null: hold it against openpi on the same machine with the same numbers.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import harness
import numpy as np

LAYERS = {"width": 64, "depth": 4, "heads": 8, "kv_heads": 1, "head_dim": 16, "mlp": 128}
CAMERAS, TOKENS, NUMBERS, STEPS = 3, 48, 32, 10
TYPES = ("float32", "bfloat16")


class Size(NamedTuple):
    """What is measured."""

    text: dict[str, Any]  # of the language model, and
    action: dict[str, Any]  # of the expert, where they are not pi0's
    horizon: int
    batch: int
    robots: int  # in a sample


SIZES = {"small": Size(LAYERS, {**LAYERS, "vocabulary": 0}, 10, 2, 2), "3b": Size({}, {}, 50, 8, 1)}


def learner(size: Size, dtype: str, remat: str) -> Any:
    """`supervised` with the flow objective and pi0."""
    from jaxrl import config as configs
    from jaxrl.algorithms import supervised
    from jaxrl.objectives import flow
    from jaxrl.ops import running_statistics
    from jaxrl.optimizers import Config as Optimizer
    from jaxrl.types import INSTRUCTION, ArraySpec, PolicySpec

    observation = {f"image/{i}": ArraySpec((224, 224, 3), "uint8") for i in range(CAMERAS)}
    observation |= {"state/joints": ArraySpec((NUMBERS,)), INSTRUCTION: ArraySpec((TOKENS,), "int32")}
    spec = PolicySpec(observation, ArraySpec((NUMBERS,)), horizon=size.horizon)
    computing = {"dtype": dtype, "remat": remat}
    vision = {"patch": 14, "width": 1152, "depth": 27, "heads": 16, "mlp": 4304, "remat": remat != "none"}
    section = {
        "name": "jaxrl.networks.vla.pi0",
        "seeing": {"vision": vision, "text": {**size.text, "computing": computing}},
        "action": {"width": 1024, "mlp": 4096, "vocabulary": 0, **size.action, "computing": computing},
    }
    make, config = configs.part(section, "network", "network")
    objective = flow.flow(flow.Config(inference_steps=STEPS), spec, make(config, observation, (size.horizon, NUMBERS)))
    optimizer = Optimizer("adamw", 2.5e-5, max_gradient_norm=1.0, options={"weight_decay": 1e-10})
    whole = running_statistics.init({"state/joints": observation["state/joints"], "action": spec.action})
    return supervised.supervised(supervised.Config(optimizer=optimizer), {"flow": objective}, {"flow": 1.0}, whole)


def shown(size: Size, rows: int) -> dict[str, Any]:
    """Observations of so many robots."""
    from jaxrl.types import INSTRUCTION

    draws = np.random.default_rng(0)
    found: dict[str, Any] = {f"image/{i}": draws.integers(0, 256, (rows, 224, 224, 3), np.uint8) for i in range(CAMERAS)}
    found["state/joints"] = draws.normal(size=(rows, NUMBERS)).astype(np.float32)
    return found | {INSTRUCTION: draws.integers(1, 1000, (rows, TOKENS)).astype(np.int32)}


def contestant(dtype: str, size: Size, remat: str) -> None:
    """Compiles both programs, then answers "train" and "sample" with the seconds of one call each, for ever."""
    import jax

    commands = harness.Commands()
    made, draws = learner(size, dtype, remat), np.random.default_rng(1)
    action = draws.normal(size=(size.batch, size.horizon, NUMBERS)).astype(np.float32)
    batch = jax.device_put({"observation": shown(size, size.batch), "action": action, "mask": np.ones_like(action)})
    seen, key = jax.device_put(shown(size, size.robots)), jax.random.key(0)
    state = jax.jit(made.init)(key)
    update = jax.jit(made.update, donate_argnums=0).lower(state, batch, key).compile()
    act = jax.jit(lambda state, seen, keys: made.policy.act(made.deployable(state), seen, (), keys)[0])
    act = act.lower(state, seen, jax.random.split(key, size.robots)).compile()
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))

    def train() -> float:
        nonlocal state
        seconds, (state, _, _) = harness.timed(update, state, batch, key)
        return seconds

    def sample() -> float:
        return harness.timed(act, state, seen, jax.random.split(key, size.robots))[0]

    memory = update.memory_analysis()
    commands.receive()
    commands.answer(
        {"parameters": count, "device": jax.devices()[0].device_kind, "temporary_bytes": getattr(memory, "temp_size_in_bytes", 0)}
    )
    commands.serve({"train": train, "sample": sample})


def figures(values: Sequence[float]) -> dict[str, float]:
    """Of the seconds of calls, the first of which is left out."""
    later = values[1:]
    return {"p50": statistics.median(later), "p99": float(np.percentile(later, 99)), "calls": len(later)}


def main() -> None:
    made = harness.parser(__doc__)
    made.add_argument("--size", choices=list(SIZES), default="small")
    made.add_argument("--types", default=",".join(TYPES), help="with commas between them")
    made.add_argument("--batch", type=int, default=0, help="rows of a train step; by default those of the size")
    made.add_argument("--remat", choices=("none", "dots", "full"), default="none")
    made.add_argument("--repeats", type=int, default=5, help="train steps of each type")
    made.add_argument("--samples", type=int, default=0, help="of each type; by default as many as train steps, of --size 3b 100")
    options = made.parse_args()
    size = SIZES[options.size]
    size = size._replace(batch=options.batch or size.batch)
    if options.contestant is not None:
        contestant(options.contestant[0], size, options.remat)
    samples = options.samples or (100 if options.size == "3b" else options.repeats)
    types, passed = options.types.split(","), forwarded(options)
    with harness.contestants(**{name: starting(name, passed) for name in types}) as live:
        told = {name: one.ask("begin") for name, one in live.items()}
        trained = harness.alternate(options.repeats + 1, {name: (lambda one=one: one.ask("train")) for name, one in live.items()})
        sampled = harness.alternate(samples + 1, {name: (lambda one=one: one.ask("sample")) for name, one in live.items()})
    ours = {name: {"train": figures(trained[name]), "sample": figures(sampled[name])} for name in types}
    rows = [("", "train step, p50 [s]", "ten-step sample, p50 [s]", "p99 [s]")]
    rows += [(name, *(f"{x:.3f}" for x in (one["train"]["p50"], one["sample"]["p50"], one["sample"]["p99"]))) for name, one in ours.items()]
    harness.table(rows)
    first = told[types[0]]
    setup = harness.setup(size=options.size, batch=size.batch, robots=size.robots, remat=options.remat, **first)
    harness.report("vla_step", None, ours, None, "s", setup=setup)


def forwarded(options: argparse.Namespace) -> list[str]:
    """What a contestant has to know."""
    return ["--size", options.size, "--batch", str(options.batch), "--remat", options.remat]


def starting(name: str, passed: list[str]) -> Callable[[], harness.Contestant]:
    return lambda: harness.Contestant([name, *passed])


if __name__ == "__main__":
    main()
