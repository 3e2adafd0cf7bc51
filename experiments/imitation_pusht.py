"""Push-T from human demonstrations, states only, by the head named behind the file: imitation_pusht.py:flow.

Paper: Chi et al. 2023, https://arxiv.org/abs/2303.04137, section 4.4 (task, data, protocol).
Command: jaxrl data prepare pusht_cchi_v7_replay.zarr --out caches/pusht
         jaxrl train --config experiments/imitation_pusht.py:flow --workdir runs/pusht_flow
         or all of them: python experiments/launchers/heads.py pusht --data pusht_cchi_v7_replay.zarr --workdir runs/heads
Device-hours: see docs/results.md. Needs `pip install "jaxrl[data,pusht]"` and `pip install --no-deps gym-pusht`.
Expected score: see docs/results.md. The return is the best reward of an episode, the mean of which is what is published.

A policy sees two steps of the pusher and of nine points of the block, predicts 16 steps from the present one on and executes 8, unless
`SIZES` has others for it. The networks of `diffusion` and `flow` are residual blocks, far cheaper than a U-Net; `diffusion_unet`
and `diffusion_transformer` have the published kinds, smaller.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

MLP = {"name": "jaxrl.networks.state_mlp", "hidden": (512, 512, 512), "activation": "relu"}
BLOCKS = {"name": "jaxrl.networks.mlp_denoiser", "width": 192, "depth": 4}
CODES = {
    "chunk": 8,
    "codebooks": {"codes": 16, "size": 256},
    "network": {"name": "jaxrl.networks.gpt", "width": 128, "layers": 4, "heads": 4},
}
DIFFUSION = {"name": "jaxrl.objectives.diffusion", "clip_sample": 1.0}
HEADS: dict[str, dict[str, Any]] = {
    "mse": {"name": "jaxrl.objectives.bc", "network": MLP},
    "gaussian": {"name": "jaxrl.objectives.bc", "head": "gaussian", "network": MLP},
    "mixture": {"name": "jaxrl.objectives.bc", "head": "mixture", "network": MLP},
    "rnn_mixture": {"name": "jaxrl.objectives.bc", "head": "mixture", "network": {"name": "jaxrl.networks.state_rnn", "memory_size": 256}},
    "binned": {"name": "jaxrl.objectives.bc", "head": "binned", "bins": 64, "network": MLP},
    "ibc": {
        "name": "jaxrl.objectives.ibc",
        "negatives": 128,
        "samples": 512,
        "derivative_free": {"iterations": 8, "noise": 0.33, "shrink": 0.6},
        "network": {"name": "jaxrl.networks.energy_mlp", "hidden": (256, 256, 256)},
    },
    "vqbet_codes": {"name": "jaxrl.objectives.vqbet", "stage": "codes", **CODES},
    "vqbet": {"name": "jaxrl.objectives.vqbet", **CODES},
    "act": {
        "name": "jaxrl.objectives.act",
        "network": {
            "name": "jaxrl.networks.act",
            "size": 128,
            "heads": 4,
            "hidden": 512,
            "encoder_layers": 2,
            "posterior_layers": 2,
            "environment": ("keypoints",),
        },
    },
    "tokens": {
        "name": "jaxrl.objectives.tokens",
        "bins": 256,
        "temperature": 1.0,
        "network": {"name": "jaxrl.networks.token_decoder", "width": 128, "layers": 4, "heads": 4},
    },
    "diffusion": {**DIFFUSION, "network": BLOCKS},
    "flow": {"name": "jaxrl.objectives.flow", "network": BLOCKS},
    "consistency": {"name": "jaxrl.objectives.consistency", "teacher": "flow", "points": 40, "network": BLOCKS},
    "diffusion_unet": {**DIFFUSION, "network": {"name": "jaxrl.networks.unet1d", "channels": (64, 128, 256)}},
    "diffusion_transformer": {
        **DIFFUSION,
        "network": {"name": "jaxrl.networks.transformer_denoiser", "layers": 4, "size": 128, "dropout": 0.01},
    },
}
FIRST = {"vqbet": "vqbet_codes", "consistency": "flow"}  # heads that begin with what another has learnt


class Sizes(NamedTuple):
    """`history`, `horizon` and `executed` are steps."""

    history: int = 2
    horizon: int = 16
    executed: int = 8
    batch: int = 256
    updates: int = 20_000
    rate: float = 1e-4


SIZES: dict[str, Sizes] = {
    "rnn_mixture": Sizes(history=10, horizon=1, executed=1),
    "ibc": Sizes(horizon=2, executed=1),
    "vqbet_codes": Sizes(horizon=10, updates=10_000),
    "vqbet": Sizes(horizon=10),
    "act": Sizes(history=1, batch=64),
    "tokens": Sizes(horizon=8, batch=64),
    "diffusion": Sizes(batch=128, updates=60_000, rate=1.5e-3),
    "flow": Sizes(batch=128, updates=60_000, rate=1.5e-3),
    "consistency": Sizes(batch=128, rate=5e-4),
    "diffusion_unet": Sizes(batch=64, updates=40_000),
    "diffusion_transformer": Sizes(batch=64, updates=40_000),
}


def get_config(head: str = "flow") -> ConfigDict:
    sizes = SIZES.get(head, Sizes())
    config = ConfigDict()
    config.env = ConfigDict({"name": "jaxrl_envs.tasks.pusht"})
    columns = {"state/agent": "state", "state/keypoints": "keypoint", "action": "action"}
    pusher = {"name": "select", "key": "observation/state/agent", "columns": (0, 1)}
    config.source = ConfigDict(
        {
            "name": "jaxrl_data.dataset_source",
            "sets": {"pusht": {"path": "caches/pusht", "columns": columns, "transforms": (pusher,)}},
            "history": sizes.history,
            "horizon": sizes.horizon,
            "scale": "bounds",
            "batch_size": sizes.batch,
        }
    )
    config.objectives = ConfigDict({head: {"weight": 1.0, **HEADS[head]}})
    config.policies = ({"name": "receding_horizon", "executed_steps": sizes.executed},)
    optimizer = {"name": "adamw", "learning_rate": sizes.rate, "schedule": "warmup_cosine", "warmup_steps": 500}
    optimizer |= {"decay_steps": sizes.updates, "options": {"b1": 0.95, "b2": 0.999, "weight_decay": 1e-6}}
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.supervised", "ema_decay": 0.9999, "optimizer": optimizer})
    config.training = ConfigDict({"total_updates": sizes.updates, "updates_per_call": 200})
    config.evaluation = ConfigDict({"num_episodes": 100})
    if head == "vqbet_codes":
        config.algorithm.ema_decay = 0.0  # codebooks follow the encoder as it is, not its average
    if head in FIRST:
        config.pretrained = f"runs/pusht_{FIRST[head]}"
    return config
