"""pi0 from openpi's weights, fine-tuned to a robot's own demonstrations: all of it, or (behind the colon) by LoRA or its expert alone.

Paper: Black et al. 2024, https://arxiv.org/abs/2410.24164; LoRA, Hu et al. 2021, https://arxiv.org/abs/2106.09685.
Command: jaxrl data prepare PATH --out caches/robot
         jaxrl train --config experiments/pi0_finetune.py:lora --workdir runs/pi0_robot
Device-hours: not measured; openpi says more than 70 GB for the whole of it, and `jaxrl plan` tells for your device.
Expected score: not reproduced, for want of the weights and of a GPU.

Weights are a folder of openpi's, `checkpoints/pi0_base`, with its `params`; words are read by PaliGemma's own tokenizer. The columns are
those of a LeRobot set of a humanoid: change them to what `jaxrl data info` shows of yours, and `CAMERAS` to the places that openpi had.
"""

from typing import Any

from ml_collections import ConfigDict

UPDATES, WARM_UP, HORIZON, EXECUTED = 30_000, 1_000, 50, 25
WEIGHTS, TOKENIZER = "checkpoints/pi0_base", "checkpoints/paligemma_tokenizer.model"
COLUMNS = {
    "image/base": "observation.images.cam_high",
    "state/joints": "observation.state",
    "action": "action",
    "task/instruction": "task",
}
CAMERAS = ("base",)  # as openpi has them: base, left wrist, right wrist
KERNELS = r"layers/(query|key|value|output|gate|up|down)/kernel$"
WAYS: dict[str, dict[str, Any]] = {
    "whole": {"ema_decay": 0.99},
    "lora": {
        "frozen": ("^flow/vision/", "^flow/projector/", "^flow/text/(embedding|norm|layers/.*norm)", "^flow/action/.*norm"),
        "lora": {f"^flow/text/{KERNELS}": {"rank": 16, "alpha": 16.0}, f"^flow/action/{KERNELS}": {"rank": 32, "alpha": 32.0}},
        "frozen_dtype": "bfloat16",
    },
    "expert": {"frozen": ("^flow/vision/", "^flow/projector/", "^flow/text/"), "frozen_dtype": "bfloat16", "ema_decay": 0.99},
}


def get_config(way: str = "whole") -> ConfigDict:
    if way not in WAYS:
        raise ValueError(f"{way!r}: there is no such way to fine-tune; there are {', '.join(WAYS)}")
    config = ConfigDict()
    config.source = ConfigDict(
        {
            "name": "jaxrl_data.dataset_source",
            "sets": {"robot": {"path": "caches/robot", "columns": COLUMNS}},
            "images": {"size": 224},
            "tokens": {"path": "jaxrl.tokenizers.text.instructions", "arguments": (TOKENIZER,), "length": 48},
            "augment": ({"name": "crop", "share": 0.95}, {"name": "colour_jitter"}),
            "horizon": HORIZON,
            "batch_size": 32,
            "validation": 0.1,
        }
    )
    computing = {"remat": "dots"}
    network = {
        "name": "jaxrl.networks.vla.pi0",
        "seeing": {"text": {"computing": computing}},
        "action": {"width": 1024, "mlp": 4096, "vocabulary": 0, "computing": computing},
        "cameras": CAMERAS,
        "weights": WEIGHTS,
    }
    config.objectives = ConfigDict({"flow": {"name": "jaxrl.objectives.flow", "network": network}})
    config.policies = ({"name": "receding_horizon", "executed_steps": EXECUTED},)
    optimizer = {
        "name": "adamw",
        "learning_rate": 2.5e-5,
        "schedule": "warmup_cosine",
        "warmup_steps": WARM_UP,
        "decay_steps": UPDATES,
        "end_fraction": 0.1,
        "max_gradient_norm": 1.0,
        "options": {"b2": 0.95, "weight_decay": 1e-10},
    }
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.supervised", "optimizer": optimizer, **WAYS[way]})
    config.training = ConfigDict({"total_updates": UPDATES, "updates_per_call": 50, "evaluate_every": 1_000, "checkpoint_seconds": 900.0})
    return config
