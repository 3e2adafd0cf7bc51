"""Policies that imitate: training steps and chunks, ours against LeRobot 0.4.4's torch modules.

    python experiments/benchmarks/imitation_vs_lerobot.py --peer-python <python of an environment that has lerobot 0.4.4>

- `diffusion`: the U-Net of Diffusion Policy from states, half as wide as LeRobot's default, which is made for images and has 250 million
  parameters. An update is a batch's loss, its gradients, their norm clipped, and a step of Adam. A chunk is what a robot waits for: of one
  observation, by DDPM with 100 steps and by DDIM with 10.
- `transformer`: the same with the transformer of Diffusion Policy, which LeRobot does not have: it is put together of torch's own layers
  (`tests/golden/lerobot_transformer_denoiser.py`). Its chunks are not measured.
- `act`: ACT at its default size, one camera of 224 x 224, chunks of 100 steps.

Batches are the same one again and again, numbers are float32, and nothing is compiled on LeRobot's side, as by its default. Contestants
live in processes of their own and take turns. Expected on two cores: at least 1.3 in updates, of ACT 1.0.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import harness

Measures = dict[str, Callable[[], Any]]  # by the name of a command: `train` gives seconds of an update, others seconds of a chunk


class Method(NamedTuple):
    settings: dict[str, Any]
    ours: Callable[[], Measures]
    theirs: Callable[[], Measures]


# Diffusion Policy

CHANNELS, BATCH, HORIZON, OBSERVED, AGENT, REST, ACTIONS = (256, 512, 1024), 64, 16, 2, 2, 3, 2
TRANSFORMER = {"layers": 8, "heads": 4, "size": 256, "dropout": 0.01}
SAMPLERS = {"ddpm 100": ("ddpm", 100), "ddim 10": ("ddim", 10)}
RATE, CLIP, DECAY, BETAS = 1e-4, 10.0, 1e-6, (0.95, 0.999)


def our_denoiser(made: Callable[[Any], Any], samplers: dict[str, tuple[str, int]]) -> Measures:
    """`made` makes the network for a policy's spec."""
    import jax

    from jaxrl import optimizers
    from jaxrl.algorithms import supervised
    from jaxrl.objectives import diffusion
    from jaxrl.ops import running_statistics
    from jaxrl.types import ArraySpec, PolicySpec

    shapes = {"state/agent": (OBSERVED, AGENT), "state/environment": (OBSERVED, REST)}
    spec = PolicySpec({name: ArraySpec(shape) for name, shape in shapes.items()}, ArraySpec((ACTIONS,)), HORIZON)
    network = made(spec)
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

    return our_measures({name: learner(*sampler) for name, sampler in samplers.items()}, batch)


def our_diffusion() -> Measures:
    from jaxrl.networks import unet1d

    return our_denoiser(lambda spec: unet1d.unet1d(unet1d.Config(CHANNELS), spec.observation, (HORIZON, ACTIONS)), SAMPLERS)


def our_transformer() -> Measures:
    from jaxrl.networks import transformer_denoiser as network

    config = network.Config(TRANSFORMER["layers"], TRANSFORMER["heads"], TRANSFORMER["size"], dropout=TRANSFORMER["dropout"])
    return our_denoiser(
        lambda spec: network.transformer_denoiser(config, spec.observation, (HORIZON, ACTIONS)), {"ddpm 100": ("ddpm", 100)}
    )


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


def their_transformer() -> Measures:
    import torch

    lerobot()
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    sys.path.insert(0, str(Path(__file__).parents[2] / "tests/golden"))
    import lerobot_transformer_denoiser as published

    torch.manual_seed(0)
    model = published.Transformer(0, published.Sizes(OBSERVED, AGENT + REST, ACTIONS, HORIZON, **TRANSFORMER))
    adam = torch.optim.Adam(model.parameters(), lr=RATE, betas=BETAS, eps=1e-8, weight_decay=DECAY)
    process = DDPMScheduler(100, beta_schedule="squaredcos_cap_v2")
    seen, chunk = torch.randn(BATCH, OBSERVED, AGENT + REST), torch.randn(BATCH, HORIZON, ACTIONS)

    def loss() -> Any:
        noise, step = torch.randn_like(chunk), torch.randint(0, 100, (BATCH,))
        return (model(process.add_noise(chunk, noise, step), step, seen) - noise).square().mean()

    return {"train": lambda: their_update(loss, model, adam, CLIP)}


# Action Chunking with Transformers

PICTURE, CAMERA_BATCH, CHUNK, ARM = 224, 8, 100, 14


def our_act() -> Measures:
    import jax

    from jaxrl import optimizers
    from jaxrl.algorithms import supervised
    from jaxrl.networks import act as network
    from jaxrl.networks.vision import cameras
    from jaxrl.objectives import act
    from jaxrl.ops import running_statistics
    from jaxrl.types import ArraySpec, PolicySpec

    pictures = ArraySpec((PICTURE, PICTURE, 3), "uint8")
    spec = PolicySpec({"state/arm": ArraySpec((ARM,)), "image/top": pictures}, ArraySpec((ARM,)), CHUNK)
    made = network.act(network.Config(cameras.Config("resnet18", shared=True, norm="batch")), spec.observation, (CHUNK, ARM))
    of_state, of_image, of_action = jax.random.split(jax.random.key(0), 3)
    image = jax.random.randint(of_image, (CAMERA_BATCH, PICTURE, PICTURE, 3), 0, 256).astype("uint8")
    batch = {
        "observation": {"state/arm": jax.random.normal(of_state, (CAMERA_BATCH, ARM)), "image/top": image},
        "action": jax.random.normal(of_action, (CAMERA_BATCH, CHUNK, ARM)),
    }
    optimizer = optimizers.Config("adamw", 1e-5, max_gradient_norm=CLIP, options={"weight_decay": 1e-4}, undecayed=())
    normaliser = running_statistics.init({"state/arm": ArraySpec((ARM,)), "action": spec.action})
    learner = supervised.supervised(supervised.Config(optimizer), {"act": act.act(act.Config(), spec, made)}, {"act": 1.0}, normaliser)
    return our_measures({"chunk": learner}, batch)


def their_act() -> Measures:
    import torch

    lerobot()
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy

    torch.manual_seed(0)
    features = {
        "observation.state": PolicyFeature(FeatureType.STATE, (ARM,)),
        "observation.images.top": PolicyFeature(FeatureType.VISUAL, (3, PICTURE, PICTURE)),
    }
    actions = {"action": PolicyFeature(FeatureType.ACTION, (ARM,))}
    sizes = {"chunk_size": CHUNK, "n_action_steps": CHUNK, "pretrained_backbone_weights": None, "device": "cpu"}
    policy = ACTPolicy(ACTConfig(input_features=features, output_features=actions, **sizes))
    seen = {
        "observation.state": torch.randn(CAMERA_BATCH, ARM),
        "observation.images.top": torch.randn(CAMERA_BATCH, 3, PICTURE, PICTURE),
    }
    batch = seen | {"action": torch.randn(CAMERA_BATCH, CHUNK, ARM), "action_is_pad": torch.zeros(CAMERA_BATCH, CHUNK, dtype=torch.bool)}
    adam = torch.optim.AdamW(policy.parameters(), lr=1e-5, weight_decay=1e-4)
    one = {name: x[:1] for name, x in seen.items()}

    def update() -> float:
        policy.train()
        return their_update(lambda: policy.forward(batch)[0], policy, adam, CLIP)

    def chunk() -> float:
        policy.eval()
        return their_chunk(lambda: policy.predict_action_chunk(one))

    return {"train": update, "chunk": chunk}


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
    "transformer": Method(
        {**TRANSFORMER, "batch": BATCH, "horizon": HORIZON, "observations": OBSERVED, "state": AGENT + REST, "action": ACTIONS},
        our_transformer,
        their_transformer,
    ),
    "act": Method({"picture": PICTURE, "batch": CAMERA_BATCH, "horizon": CHUNK, "state": ARM, "action": ARM}, our_act, their_act),
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
        for which in live["theirs"].ask("names"):
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
