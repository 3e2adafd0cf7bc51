"""Gradient updates of SAC: ours against LeRobot 0.4.4's torch module, put together as in its learner.

    python experiments/benchmarks/sac_vs_lerobot.py --peer-python <python of an environment that has lerobot 0.4.4>

Observations of 27 numbers and 8 actions, as brax's ant has; batches of 256, the same one again and again; one step of critics, actor and
temperature and one of the target critics for each update. Ours has two layers of 256 in each network. LeRobot's put a layer of 256,
which all share, in front of what its config calls hidden layers: with one of these its networks are as deep as ours, which is the
`ratio`; with two, its default, they are deeper. Its critics are compiled by torch.compile where that works, as by default.

Contestants live in processes of their own and take turns. Expected on two cores: at least 1.5.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import harness

WIDTH, BATCH, OBSERVED, ACTIONS, GAMMA, TAU, RATE = 256, 256, 27, 8, 0.99, 0.005, 3e-4
UPDATES = 100  # in a block
CONTESTANTS = ("native", "lerobot", "lerobot, its default depth")


def ours() -> Callable[[], float]:
    """Seconds of a block of updates."""
    import jax
    import jax.numpy as jnp

    from jaxrl import optimizers
    from jaxrl.algorithms import sac
    from jaxrl.networks import actor_q
    from jaxrl.networks._torsos import Torso
    from jaxrl.types import ArraySpec, EnvSpec, Replayed

    spec = EnvSpec("ant", {"state/all": ArraySpec((OBSERVED,))}, ArraySpec((ACTIONS,), low=-1.0, high=1.0), 1000, 0.05)
    networks = actor_q.actor_q(actor_q.Config(Torso(width=WIDTH), Torso(width=WIDTH)), spec)
    rate = optimizers.Config(learning_rate=RATE)
    algorithm = sac.sac(sac.Config(rate, rate, gamma=GAMMA, tau=TAU, target_entropy=-0.5), spec, networks)
    state, shape = jax.jit(algorithm.init)(jax.random.key(0)), (1, BATCH)
    seen, later = ({"state/all": jax.random.normal(jax.random.key(i), (*shape, OBSERVED))} for i in (1, 2))
    action = jax.random.uniform(jax.random.key(3), (*shape, ACTIONS), minval=-1.0, maxval=1.0)
    one = jnp.ones(shape)
    batch = Replayed(seen, action, one[..., None], jnp.ones(shape, jnp.int32), one, later, one, {})

    @partial(jax.jit, donate_argnums=0)
    def block(state: Any, batch: Any, key: Any) -> Any:
        return jax.lax.scan(lambda s, k: (algorithm.update(s, batch, k)[0], None), state, jax.random.split(key, UPDATES))[0]

    def run() -> float:
        nonlocal state
        seconds, state = harness.timed(block, state, batch, jax.random.key(4))
        return seconds

    return run


def theirs(depth: int) -> Callable[[], float]:
    """Seconds of a block of updates with `depth` hidden layers behind the encoder."""
    import torch
    from torch import library

    # What torchvision registers by compiled code, which the wheel for another version of torch lacks; nothing here calls it.
    operators = library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.sac.configuration_sac import ActorNetworkConfig, CriticNetworkConfig, SACConfig
    from lerobot.policies.sac.modeling_sac import SACPolicy

    torch.manual_seed(0)
    policy = SACPolicy(
        SACConfig(
            input_features={"observation.state": PolicyFeature(FeatureType.STATE, (OBSERVED,))},
            output_features={"action": PolicyFeature(FeatureType.ACTION, (ACTIONS,))},
            dataset_stats=None,
            latent_dim=WIDTH,
            state_encoder_hidden_dim=WIDTH,
            critic_network_kwargs=CriticNetworkConfig([WIDTH] * depth),
            actor_network_kwargs=ActorNetworkConfig([WIDTH] * depth),
            discount=GAMMA,
            critic_target_update_weight=TAU,
        )
    )
    policy.train()
    groups = {name: list(p) if name != "temperature" else [p] for name, p in policy.get_optim_params().items()}
    adams = {name: torch.optim.Adam(params, lr=RATE) for name, params in groups.items()}
    clipped = {
        "critic": list(policy.critic_ensemble.parameters()),
        "actor": list(policy.actor.parameters()),
        "temperature": [policy.log_alpha],
    }
    seen, later = ({"observation.state": torch.randn(BATCH, OBSERVED)} for _ in range(2))
    batch = {
        "action": torch.rand(BATCH, ACTIONS) * 2 - 1,
        "reward": torch.ones(BATCH),
        "state": seen,
        "next_state": later,
        "done": torch.zeros(BATCH),
    }

    def run() -> float:
        began = time.perf_counter()
        for _ in range(UPDATES):
            for name in ("critic", "actor", "temperature"):
                loss = policy.forward(batch, model=name)[f"loss_{name}"]
                adams[name].zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(clipped[name], max_norm=policy.config.grad_clip_norm)
                adams[name].step()
            policy.update_target_networks()
        return time.perf_counter() - began

    return run


def contestant(name: str) -> None:
    """Answers `measure` with the seconds of one block, for ever."""
    commands = harness.Commands()
    run = ours() if name == "native" else theirs(1 if name == "lerobot" else 2)
    commands.serve({"measure": run})


def main() -> int:
    parser = harness.parser(__doc__)
    parser.add_argument("--peer-python", help="the python of an environment with lerobot 0.4.4")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    if options.contestant:
        contestant(*options.contestant)
    if not options.peer_python:
        print("skipped: --peer-python has to name the python of an environment with lerobot 0.4.4")
        return 0
    started = {
        name: partial(harness.Contestant, [name], python=sys.executable if name == "native" else options.peer_python)
        for name in CONTESTANTS
    }
    with harness.contestants(**started) as live:
        ask = {name: partial(each.ask, "measure") for name, each in live.items()}
        for each in ask.values():
            each(), each()  # compile and settle
        found = {name: [UPDATES / seconds for seconds in values] for name, values in harness.alternate(options.repeats, ask).items()}
    harness.table([["", "gradient updates/s"], *([name, harness.spread(values)] for name, values in found.items())])
    medians = {name: statistics.median(values) for name, values in found.items()}
    harness.report(
        "sac_vs_lerobot",
        ratio=medians["native"] / medians["lerobot"],
        ours=medians["native"],
        theirs=medians["lerobot"],
        unit="gradient updates/s",
        ratio_at_their_default_depth=medians["native"] / medians["lerobot, its default depth"],
        setup=harness.setup(batch=BATCH, width=WIDTH, repeats=options.repeats),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
