"""Imitation of teleoperated episodes with a camera, by the head named behind the file: imitation_robot.py:act.

Paper: Zhao et al. 2023, https://arxiv.org/abs/2304.13705 (act); Chi et al. 2023, https://arxiv.org/abs/2303.04137 (diffusion).
Command: jaxrl data prepare PATH --out caches/robot
         jaxrl train --config experiments/imitation_robot.py:act --workdir runs/robot_act
Device-hours: hours of a GPU for a set of a hundred episodes; a CPU shows that it learns.
Expected score: there is no simulator, so what is told is the error on episodes that were held out. Not yet reproduced on a whole set.

The columns are those of LeRobot sets, here of a humanoid with one camera and 26 joint targets. For your own, change `COLUMNS` to what
`jaxrl data info` shows, and `CAMERA` to the part of the picture that counts.
"""

from typing import Any

from ml_collections import ConfigDict

COLUMNS = {"image/high": "observation.images.cam_high", "state/joints": "observation.state", "action": "action"}
SIZE, CAMERA = 256, {"kind": "resnet18", "crop": (224, 224), "brightness": 0.2, "contrast": 0.2}
HEADS: dict[str, dict[str, Any]] = {
    "act": {"name": "jaxrl.objectives.act", "network": {"name": "jaxrl.networks.act", "cameras": {**CAMERA, "shared": True}}},
    "diffusion": {
        "name": "jaxrl.objectives.diffusion",
        "clip_sample": 1.0,
        "network": {
            "name": "jaxrl.networks.unet1d",
            "channels": (128, 256, 512),
            "vision": {"cameras": CAMERA, "pool": "spatial_softmax", "keypoints": 32},
        },
    },
}
# Steps seen, predicted and executed, rows of a batch.
SIZES = {"act": (1, 100, 50, 8), "diffusion": (2, 16, 8, 64)}
UPDATES = 100_000


def get_config(head: str = "act") -> ConfigDict:
    history, horizon, executed, batch_size = SIZES[head]
    config = ConfigDict()
    config.source = ConfigDict(
        {
            "name": "jaxrl_data.dataset_source",
            "sets": {"robot": {"path": "caches/robot", "columns": COLUMNS}},
            "images": {"size": SIZE},
            "history": history,
            "horizon": horizon,
            "scale": "bounds" if head == "diffusion" else "z_score",
            "batch_size": batch_size,
            "validation": 0.1,
        }
    )
    config.objectives = ConfigDict({head: {"weight": 1.0, **HEADS[head]}})
    config.policies = ({"name": "receding_horizon", "executed_steps": executed},)
    optimizer = {"name": "adamw", "learning_rate": 1e-5 if head == "act" else 1e-4, "options": {"weight_decay": 1e-4}}
    ema = {"act": 0.0, "diffusion": 0.9999}[head]
    config.algorithm = ConfigDict({"name": "jaxrl.algorithms.supervised", "ema_decay": ema, "optimizer": optimizer})
    config.training = ConfigDict({"total_updates": UPDATES, "updates_per_call": 50, "checkpoint_seconds": 600.0})
    return config
