"""What LeRobot's ACT (0.4.4) makes of small observations: run by a Python that has it, which the tests have not.

    python tests/golden/lerobot_act.py [FILE]       # writes lerobot_act.npz beside itself

Weights, observations and noise follow from their names (`named.py`). `tests/objectives/test_act.py` compares: chunks, posteriors, losses
and their slopes. 0.4.4 divides the L1 by all elements, padded ones too, so where some are padded the loss is that of LeRobot's later
versions, which divide by those that are not.
"""

from typing import Any

import named
import numpy as np
import torch
from torch import library as operators

library = operators.Library("torchvision", "DEF")  # where torchvision's compiled part does not fit torch, its import asks for these
for signature in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "qnms(Tensor a, Tensor b, float c) -> Tensor"):
    try:
        library.define(signature)
    except RuntimeError:  # it does fit
        pass

from lerobot.configs.types import FeatureType, PolicyFeature  # noqa: E402
from lerobot.policies.act.configuration_act import ACTConfig  # noqa: E402
from lerobot.policies.act.modeling_act import ACTPolicy  # noqa: E402

BATCH, CHUNK, ACTION, STATE, ENVIRONMENT = 3, 8, 3, 5, 4


def drawn(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(named.draws(name, shape))


def policy(inputs: dict[str, PolicyFeature], **fields: Any) -> ACTPolicy:
    config = ACTConfig(
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (ACTION,))},
        chunk_size=CHUNK,
        n_action_steps=CHUNK,
        pretrained_backbone_weights=None,
        dim_model=32,
        n_heads=4,
        dim_feedforward=64,
        n_encoder_layers=1,
        latent_dim=6,
        dropout=0.0,
        device="cpu",
        **fields,
    )
    made = ACTPolicy(config)
    shapes = {name: tuple(value.shape) for name, value in made.model.state_dict().items() if name != "vae_encoder_pos_enc"}
    weights = {name: torch.from_numpy(value) for name, value in named.weights(shapes, "act/").items()}
    made.model.load_state_dict(weights, strict=False)
    return made


def told(made: ACTPolicy, batch: dict[str, torch.Tensor], padded: torch.Tensor, name: str) -> dict[str, np.ndarray]:
    """The chunk of the latent vector 0, the posterior, the loss, and its slopes."""
    noise = drawn("noise", BATCH, 6)
    torch.randn_like = lambda like: noise  # type: ignore[assignment]
    batch = batch | {"action": drawn("chunk", BATCH, CHUNK, ACTION), "action_is_pad": padded}
    sampled = made.predict_action_chunk(batch)
    made.train()
    loss, parts = made.forward(batch)
    seen = batch | {"observation.images": [batch[key] for key in made.config.image_features]} if made.config.image_features else batch
    chunk, (mean, log_variance) = made.model(seen)
    if padded.any():
        distance = (chunk - batch["action"]).abs() * ~padded[..., None]
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(-1)
        loss = distance.sum() / (~padded).sum() / ACTION + 10.0 * divergence.mean()
    learnt = {n: p for n, p in made.model.named_parameters() if p.requires_grad}
    slopes = torch.autograd.grad(loss, list(learnt.values()), allow_unused=True)
    used = {n: slope.numpy() for n, slope in zip(learnt, slopes, strict=True) if slope is not None}
    found = {"sampled": sampled, "chunk": chunk, "mean": mean, "log_variance": log_variance, "loss": loss}
    found = {part: value.detach().numpy() for part, value in found.items()} | {"kl": np.array(parts["kld_loss"])}
    held = np.array([f"{n} {' '.join(map(str, value.shape))}" for n, value in made.model.state_dict().items()])
    found |= {"names": np.array(sorted(used)), "slopes": named.told(used), "state": held}
    return {f"{name}/{part}": value for part, value in found.items()}


def main() -> None:
    none = torch.zeros(BATCH, CHUNK, dtype=torch.bool)
    some = torch.arange(CHUNK)[None] >= torch.tensor([8, 5, 1])[:, None]
    state = {"observation.state": PolicyFeature(FeatureType.STATE, (STATE,))}
    outside = {"observation.environment_state": PolicyFeature(FeatureType.ENV, (ENVIRONMENT,))}
    camera = {"observation.images.a": PolicyFeature(FeatureType.VISUAL, (3, 64, 48))}

    vectors = {"observation.state": drawn("state", BATCH, STATE), "observation.environment_state": drawn("environment", BATCH, ENVIRONMENT)}
    made = policy(state | outside, n_vae_encoder_layers=2, n_decoder_layers=2)
    found = told(made, vectors, none, "states") | told(made, vectors, some, "states_padded")
    # Pictures in [0, 1] less ImageNet's mean over its deviation, as LeRobot's preprocessor makes them.
    pixels = torch.from_numpy(named.pixels("pixels", (BATCH, 64, 48, 3))).permute(0, 3, 1, 2) / 255.0
    mean, deviation = (torch.tensor(x)[None, :, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    seen = {"observation.state": vectors["observation.state"], "observation.images.a": (pixels - mean) / deviation}
    found |= told(policy(state | camera, n_vae_encoder_layers=1, n_decoder_layers=1), seen, some, "pictures_padded")
    named.write(__file__, found, "lerobot", "torch")


if __name__ == "__main__":
    main()
