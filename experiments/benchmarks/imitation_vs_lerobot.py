"""Policies that imitate: training steps and chunks, ours against LeRobot 0.4.4's torch modules.

    python experiments/benchmarks/imitation_vs_lerobot.py --peer-python <python of an environment that has lerobot 0.4.4>

- `diffusion`: the U-Net of Diffusion Policy from states, half as wide as LeRobot's default, which is made for images and has 250 million
  parameters. An update is a batch's loss, its gradients, their norm clipped, and a step of Adam. A chunk is what a robot waits for: of one
  observation, by DDPM with 100 steps and by DDIM with 10.

Batches are the same one again and again, numbers are float32, and nothing is compiled on LeRobot's side, as by its default. Contestants
live in processes of their own and take turns. Expected on two cores: at least 1.3 in updates.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import harness

Measures = dict[str, Callable[[], Any]]  # by the name of a command: `train` gives seconds of an update, others seconds of a chunk


class Method(NamedTuple):
    settings: dict[str, Any]
    ours: Callable[[], Measures]
    theirs: Callable[[], Measures]


# Diffusion Policy

CHANNELS, BATCH, HORIZON, OBSERVED, AGENT, REST, ACTIONS = (256, 512, 1024), 64, 16, 2, 2, 3, 2
SAMPLERS = {"ddpm 100": ("ddpm", 100), "ddim 10": ("ddim", 10)}
RATE, CLIP, DECAY, BETAS = 1e-4, 10.0, 1e-6, (0.95, 0.999)


def our_diffusion() -> Measures:
    import jax

    from jaxrl import optimizers
    from jaxrl.algorithms import supervised
    from jaxrl.networks import unet1d
    from jaxrl.objectives import diffusion
    from jaxrl.ops import running_statistics
    from jaxrl.types import ArraySpec, PolicySpec

    shapes = {"state/agent": (OBSERVED, AGENT), "state/environment": (OBSERVED, REST)}
    spec = PolicySpec({name: ArraySpec(shape) for name, shape in shapes.items()}, ArraySpec((ACTIONS,)), HORIZON)
    network = unet1d.unet1d(unet1d.Config(CHANNELS), spec.observation, (HORIZON, ACTIONS))
    keys = dict(zip((*shapes, "action"), jax.random.split(jax.random.key(0), 3), strict=True))
    seen = {name: jax.random.normal(keys[name], (BATCH, *shape)) for name, shape in shapes.items()}
    batch = {"observation": seen, "action": jax.random.normal(keys["action"], (BATCH, HORIZON, ACTIONS))}
    optimizer = optimizers.Config(
        "adamw", RATE, max_gradient_norm=CLIP, options={"b1": BETAS[0], "b2": BETAS[1], "weight_decay": DECAY}, undecayed=()
    )

    def learner(sampler: str, steps: int) -> Any:
        objective = diffusion.diffusion(diffusion.Config(sampler=sampler, inference_steps=steps), spec, network)
        normaliser = running_statistics.init(dict(spec.observation) | {"action": spec.action})
        return supervised.supervised(supervised.Config(optimizer), {"diffusion": objective}, {"diffusion": 1.0}, normaliser)

    return our_measures({name: learner(*sampler) for name, sampler in SAMPLERS.items()}, batch)


def our_measures(learners: dict[str, Any], batch: Any, updates: int = 2) -> Measures:
    """Of algorithms that are trained alike, by the names of what their policies are measured as."""
    import jax

    algorithm = next(iter(learners.values()))
    state = jax.jit(algorithm.init)(jax.random.key(0))

    @partial(jax.jit, donate_argnums=0)
    def block(state: Any, batch: Any, key: Any) -> Any:
        return jax.lax.scan(lambda s, k: (algorithm.update(s, batch, k)[0], None), state, jax.random.split(key, updates))[0]

    def train() -> float:
        nonlocal state
        seconds, state = harness.timed(block, state, batch, jax.random.key(1))
        return seconds / updates

    one, keys = jax.tree.map(lambda x: x[:1], batch["observation"]), jax.random.split(jax.random.key(2), 1)
    acts = {name: jax.jit(lambda p, x, k, act=learner.policy.act: act(p, x, (), k)[0]) for name, learner in learners.items()}
    chunks = {name: lambda act=act: harness.timed(act, algorithm.deployable(state), one, keys)[0] for name, act in acts.items()}
    return {"train": train} | chunks


def lerobot() -> None:
    """What torchvision registers by compiled code, which the wheel for another version of torch lacks; nothing here calls it."""
    from torch import library

    operators = library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    globals()["operators"] = operators  # they are there as long as it is


def their_diffusion() -> Measures:
    import torch

    lerobot()
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
    from lerobot.policies.diffusion.modeling_diffusion import DiffusionModel

    def made(scheduler: str, steps: int) -> Any:
        features = {
            "observation.state": PolicyFeature(FeatureType.STATE, (AGENT,)),
            "observation.environment_state": PolicyFeature(FeatureType.ENV, (REST,)),
        }
        return DiffusionModel(
            DiffusionConfig(
                n_obs_steps=OBSERVED,
                horizon=HORIZON,
                down_dims=CHANNELS,
                noise_scheduler_type=scheduler.upper(),
                num_inference_steps=steps,
                input_features=features,
                output_features={"action": PolicyFeature(FeatureType.ACTION, (ACTIONS,))},
                device="cpu",
            )
        )

    torch.manual_seed(0)
    models = {name: made(*sampler) for name, sampler in SAMPLERS.items()}
    model = next(iter(models.values()))
    seen = {"observation.state": torch.randn(BATCH, OBSERVED, AGENT), "observation.environment_state": torch.randn(BATCH, OBSERVED, REST)}
    batch = seen | {"action": torch.randn(BATCH, HORIZON, ACTIONS), "action_is_pad": torch.zeros(BATCH, HORIZON, dtype=torch.bool)}
    adam = torch.optim.Adam(model.parameters(), lr=RATE, betas=BETAS, eps=1e-8, weight_decay=DECAY)
    one = {name: x[:1] for name, x in seen.items()}
    chunks = {name: partial(their_chunk, lambda m=each: m.generate_actions(one)) for name, each in models.items()}
    return {"train": lambda: their_update(lambda: model.compute_loss(batch), model, adam, CLIP)} | chunks


def their_update(loss: Callable[[], Any], module: Any, optimizer: Any, clip: float) -> float:
    import torch

    began = time.perf_counter()
    loss().backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - began


def their_chunk(sample: Callable[[], Any]) -> float:
    import torch

    began = time.perf_counter()
    with torch.inference_mode():
        sample()
    return time.perf_counter() - began


METHODS = {
    "diffusion": Method(
        {"channels": CHANNELS, "batch": BATCH, "horizon": HORIZON, "observations": OBSERVED, "state": AGENT + REST, "action": ACTIONS},
        our_diffusion,
        their_diffusion,
    ),
}


def contestant(side: str, name: str) -> None:
    """Answers commands with the seconds that what they name took, for ever."""
    commands = harness.Commands()
    measures: Measures = getattr(METHODS[name], side)()
    commands.serve({"names": lambda: list(measures), "measure": lambda which: measures[which]()})


def measured(name: str, peer: str, repeats: int, chunks: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of either side by what was measured."""
    started = {
        side: partial(harness.Contestant, [side, name], python=sys.executable if side == "ours" else peer) for side in ("ours", "theirs")
    }
    with harness.contestants(**started) as live:
        found = {}
        for which in live["ours"].ask("names"):
            ask = {side: partial(each.ask, "measure", which=which) for side, each in live.items()}
            for each in ask.values():
                each()  # compile and settle
            found[which] = harness.alternate(repeats if which == "train" else chunks, ask)
        return found


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    return sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]


def main() -> int:
    parser = harness.parser(__doc__)
    parser.add_argument("--peer-python", help="the python of an environment with lerobot 0.4.4")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--repeats", type=int, default=15, help="updates of either side")
    parser.add_argument("--chunks", type=int, default=40, help="of either side and each sampler")
    options = parser.parse_args()
    if options.contestant:
        contestant(*options.contestant)
    if not options.peer_python:
        print("skipped: --peer-python has to name the python of an environment with lerobot 0.4.4")
        return 0
    table, rows = [["", "ours [s]", "LeRobot [s]", "ratio"]], {}
    for name in options.methods:
        for which, sides in measured(name, options.peer_python, options.repeats, options.chunks).items():
            row: dict[str, Any] = {"ratio": statistics.median(sides["theirs"]) / statistics.median(sides["ours"])}
            row |= {f"{side}_p{share}": percentile(values, share / 100) for side, values in sides.items() for share in (50, 99)}
            rows[f"{name}: {which}"] = row
            table.append([f"{name}: {which}", *(harness.spread(sides[side], 4) for side in ("ours", "theirs")), f"{row['ratio']:.2f}"])
    harness.table(table)
    first = rows[f"{options.methods[0]}: train"]
    harness.report(
        "imitation_vs_lerobot",
        ratio=first["ratio"],
        ours=first["ours_p50"],
        theirs=first["theirs_p50"],
        unit="s per update",
        rows=rows,
        setup=harness.setup(
            methods={name: METHODS[name].settings for name in options.methods}, repeats=options.repeats, chunks=options.chunks
        ),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
