"""pi0 at debug size on two real robots at once, from nothing: a WidowX arm (RLDS) and a humanoid's two arms and hands (LeRobot).

Paper: Black et al. 2024, https://arxiv.org/abs/2410.24164.
Command: jaxrl data prepare bridge_debug/1.0.0 --split train --out caches/bridge
         jaxrl data prepare g1_yellow_bottle --out caches/g1
         jaxrl train --config experiments/pi0_small_mixture.py --workdir runs/pi0_small_mixture
Device-hours: not yet measured.
Expected score: not yet measured.

Each set is normalised by itself, and their dimensions stand beside each other, of which each robot's own count. Words are their bytes. The
25 episodes of the first set are in its split `val` once more, so five of those in `train` are held out. For the sizes of the paper leave
out `LAYERS` and `vision`, and name a tokenizer: docs/vla.md.
"""

from ml_collections import ConfigDict

UPDATES, HORIZON = 3_000, 8
LAYERS = {"width": 64, "depth": 4, "heads": 8, "kv_heads": 1, "head_dim": 16, "mlp": 128}
COMPUTING = {"dtype": "float32"}
G1 = {
    "image/primary": "observation.images.cam_high",
    "state/joints": "observation.state",
    "action": "action",
    "task/instruction": "task",
}


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.source = ConfigDict(
        {
            "name": "jaxrl_data.dataset_source",
            "sets": {
                "bridge": {"path": "caches/bridge", "standard": "bridge_dataset"},
                "g1": {"path": "caches/g1", "columns": G1},
            },
            "temperature": 2.0,
            "images": {"size": 64, "cameras": ("primary", "secondary")},
            "tokens": {"length": 64},
            "augment": ({"name": "crop", "share": 0.9}, {"name": "colour_jitter"}),
            "normalise": "quantile",
            "horizon": HORIZON,
            "batch_size": 64,
            "validation": 0.25,
        }
    )
    config.objectives = ConfigDict(
        {
            "flow": {
                "name": "jaxrl.objectives.flow",
                "network": {
                    "name": "jaxrl.networks.vla.pi0",
                    "seeing": {
                        "vision": {"image": 64, "patch": 16, "width": 64, "depth": 4, "heads": 4, "mlp": 128},
                        "text": {**LAYERS, "vocabulary": 257, "computing": COMPUTING},
                    },
                    "action": {**LAYERS, "vocabulary": 0, "computing": COMPUTING},
                    "action_dim": 40,
                },
            }
        }
    )
    config.algorithm = ConfigDict(
        {
            "name": "jaxrl.algorithms.supervised",
            "ema_decay": 0.999,
            "optimizer": {
                "name": "adamw",
                "learning_rate": 1e-3,
                "schedule": "warmup_cosine",
                "warmup_steps": 200,
                "decay_steps": UPDATES,
                "max_gradient_norm": 1.0,
                "options": {"weight_decay": 1e-2},
            },
        }
    )
    config.training = ConfigDict({"total_updates": UPDATES, "updates_per_call": 50, "evaluate_every": 500})
    return config
