"""pi0 on the magic soup of Open X-Embodiment (23 data sets), from PaliGemma's or openpi's weights, on a cluster.

Paper: Black et al. 2024, https://arxiv.org/abs/2410.24164; weights of the sets: OpenVLA, https://arxiv.org/abs/2406.09246.
Command: jaxrl data prepare gs://gresearch/robotics/<name>/<version> --split train --out <caches>/<name>     for each set, or on Beam
         jaxrl train --config experiments/pi0_oxe.py:<caches> --workdir gs://<bucket>/pi0_oxe
Device-hours: not measured; `jaxrl plan` tells for your devices.
Expected score: has never run; its parts have, on small data and sizes.

Behind the colon is the folder of the caches. Each set is normalised by itself. Train states lie over the eight devices of a host, and
batches over all devices.
"""

from ml_collections import ConfigDict

from jaxrl_data.standardise import oxe

UPDATES, WARM_UP, HORIZON = 300_000, 5_000, 16
HOSTS, DEVICES = 4, 8
TOKENIZER = "checkpoints/paligemma_tokenizer.model"


def get_config(caches: str = "caches/oxe") -> ConfigDict:
    weights = oxe.mixture("openvla/oxe_magic_soup")
    config = ConfigDict()
    config.source = ConfigDict(
        {
            "name": "jaxrl_data.dataset_source",
            "sets": {name: {"path": f"{caches}/{name}", "standard": name, "weight": weight} for name, weight in weights.items()},
            "images": {"size": 224, "cameras": ("primary", "secondary", "wrist")},
            "tokens": {"path": "jaxrl.tokenizers.text.instructions", "arguments": (TOKENIZER,), "length": 48, "cut": True},
            "augment": ({"name": "crop", "share": 0.95}, {"name": "colour_jitter"}),
            "normalise": "quantile",
            "horizon": HORIZON,
            "batch_size": 2048,
            "validation": 0.01,
            "quarantine": True,
        }
    )
    computing = {"remat": "full"}
    network = {
        "name": "jaxrl.networks.vla.pi0",
        "seeing": {
            "vision": {"patch": 14, "width": 1152, "depth": 27, "heads": 16, "mlp": 4304, "remat": True},
            "text": {"computing": computing},
        },
        "action": {"width": 1024, "mlp": 4096, "vocabulary": 0, "computing": computing},
        "action_dim": 64,
    }
    config.objectives = ConfigDict({"flow": {"name": "jaxrl.objectives.flow", "network": network}})
    optimizer = {
        "name": "adamw",
        "learning_rate": 5e-5,
        "schedule": "warmup_cosine",
        "warmup_steps": WARM_UP,
        "decay_steps": UPDATES,
        "end_fraction": 0.1,
        "max_gradient_norm": 1.0,
        "options": {"b2": 0.95, "weight_decay": 1e-10},
    }
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.supervised", "ema_decay": 0.999, "optimizer": optimizer})
    config.devices, config.mesh = HOSTS * DEVICES, ConfigDict({"fsdp": DEVICES})
    config.training = ConfigDict({"total_updates": UPDATES, "updates_per_call": 100, "evaluate_every": 5_000, "checkpoint_seconds": 1800.0})
    return config
