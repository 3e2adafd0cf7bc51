"""A ResNet-18 on a CPU: ours against torchvision's, forwards alone and with gradients.

    python experiments/benchmarks/vision.py --peer-python <python of an environment that has torch and torchvision>

Batch normalisation is frozen, as ACT has it; pictures are 96 x 96 in batches of 32 and 224 x 224 in batches of 8, the same again and again.
Ours learns inside a loop, where training runs. torchvision's is measured in both of its layouts, and the faster one counts.

Contestants live in processes of their own and take turns; both get all cores. `ratio` is torchvision's seconds over ours, the worst of the
four. Processor time is told too (`cpu`), which other work on the machine touches less.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import harness

CASES = {"96 forwards": (96, 32), "96 gradient": (96, 32), "224 forwards": (224, 8), "224 gradient": (224, 8)}
CONTESTANTS = ("jaxrl", "torchvision", "torchvision, channels last")


def measured(run: Callable[[], Any]) -> list[float]:
    """Seconds, and seconds of all processors."""
    start, used = time.perf_counter(), time.process_time()
    run()
    return [time.perf_counter() - start, time.process_time() - used]


def ours(case: str) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    from jaxrl.networks.vision.resnet import Config, resnet

    size, batch = CASES[case]
    network = resnet(Config(norm="batch")).network
    params, statistics_ = jax.jit(network.init)(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (batch, size, size, 3))

    @jax.jit
    def step(params: Any, x: Any) -> Any:
        if case.endswith("forwards"):
            return network.apply(params, statistics_, x)[0].map
        slope = jax.grad(lambda p, x: jnp.square(network.apply(p, statistics_, x)[0].map).mean())

        def update(params: Any, _: Any) -> tuple[Any, None]:
            return jax.tree.map(lambda p, g: p - 1e-6 * g, params, slope(params, x)), None

        return jax.lax.scan(update, params, None, length=1)[0]

    return lambda: jax.block_until_ready(step(params, x))


def theirs(case: str, last: bool) -> Callable[[], Any]:
    import torch
    from torch import library as operators

    library = operators.Library("torchvision", "DEF")  # where torchvision's compiled part does not fit torch, its import asks for these
    for signature in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "qnms(Tensor a, Tensor b, float c) -> Tensor"):
        try:
            library.define(signature)
        except RuntimeError:  # it does fit
            pass
    import torchvision

    size, batch = CASES[case]
    model = torchvision.models.resnet18(weights=None, norm_layer=torchvision.ops.misc.FrozenBatchNorm2d)
    body, x = torch.nn.Sequential(*list(model.children())[:-2]), torch.randn(batch, 3, size, size)
    if last:
        body, x = body.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(body.parameters(), 1e-6)

    def forwards() -> None:
        with torch.no_grad():
            body(x)

    def update() -> None:
        optimizer.zero_grad()
        body(x).square().mean().backward()
        optimizer.step()

    return forwards if case.endswith("forwards") else update


def contestant(name: str) -> None:
    """Answers each case with the seconds of one step, and those of all processors."""
    commands = harness.Commands()
    made: dict[str, Callable[[], Any]] = {}

    def block(case: str) -> list[float]:
        if case not in made:  # built, compiled and warmed up
            made[case] = ours(case) if name == "jaxrl" else theirs(case, "last" in name)
            made[case]()
        return measured(made[case])

    commands.serve({case: partial(block, case) for case in CASES})


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--peer-python", help="the python of an environment with torch and torchvision")
    parser.add_argument("--repeats", type=int, default=9, help="steps of each")
    options = parser.parse_args()
    if options.contestant:
        return contestant(*options.contestant)
    if not options.peer_python:
        print("skipped: --peer-python has to name the python of an environment with torch and torchvision")
        return None
    started = {
        name: partial(harness.Contestant, [name], python=sys.executable if name == "jaxrl" else options.peer_python) for name in CONTESTANTS
    }
    rows, ratios, medians = [["ms per step", *CONTESTANTS, "torchvision/jaxrl", "cpu"]], {}, {}
    with harness.contestants(**started) as live:
        for case in CASES:
            for each in live.values():
                each.ask(case)
            pairs: dict[str, list[list[float]]] = harness.alternate(options.repeats, {n: partial(e.ask, case) for n, e in live.items()})
            wall, used = ({n: statistics.median(pair[i] for pair in values) for n, values in pairs.items()} for i in range(2))
            quickest = [min(part[name] for name in CONTESTANTS[1:]) / part["jaxrl"] for part in (wall, used)]
            ratios[case], medians[case] = quickest[0], {"wall": wall, "cpu": used}
            spreads = [harness.spread([1e3 * pair[0] for pair in pairs[name]], 0) for name in CONTESTANTS]
            rows.append([case, *spreads, *(f"{ratio:.2f}" for ratio in quickest)])
    harness.table(rows)
    worst = min(ratios, key=lambda case: ratios[case])
    harness.report(
        "vision",
        ratio=ratios[worst],
        ours=medians[worst]["wall"]["jaxrl"],
        theirs=min(medians[worst]["wall"][name] for name in CONTESTANTS[1:]),
        unit="s/step",
        case=worst,
        medians=medians,
        setup=harness.setup(repeats=options.repeats),
    )
    return None


if __name__ == "__main__":
    main()
