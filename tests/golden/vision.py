"""What torchvision 0.29, transformers 4.57 and LeRobot 0.4.4 make of small pictures: run by a Python that has them, as the tests have not.

    python tests/golden/vision.py [FILE]        # writes vision.npz beside itself

Weights follow from their names (`named.py`). `tests/networks/vision` compares: features, and slopes of their sum with random factors.
"""

from collections import OrderedDict
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

import torchvision  # noqa: E402
from lerobot.policies.diffusion.modeling_diffusion import SpatialSoftmax, _replace_submodules  # noqa: E402
from torchvision.ops.misc import FrozenBatchNorm2d  # noqa: E402
from transformers import (  # noqa: E402
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 24, "patch_size": 8}


def filled(model: torch.nn.Module, prefix: str) -> torch.nn.Module:
    """With the weights of their names, in evaluation; the grid of a spatial softmax stays."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items() if name != "pos_grid"}
    model.load_state_dict({name: torch.from_numpy(value) for name, value in named.weights(shapes, prefix).items()}, strict=False)
    return model.eval()


def told(model: torch.nn.Module, output: torch.Tensor, name: str) -> dict[str, np.ndarray]:
    """`output`, and the slopes of its sum with the factors called `name`."""
    factors = torch.from_numpy(named.draws(f"{name} factors", tuple(output.shape)))
    learnt = {n: p for n, p in model.named_parameters() if p.requires_grad}
    slopes = torch.autograd.grad((output * factors).sum(), list(learnt.values()), allow_unused=True)
    used = {n: slope.numpy() for n, slope in zip(learnt, slopes, strict=True) if slope is not None}
    held = np.array([f"{n} {' '.join(map(str, value.shape))}" for n, value in model.state_dict().items()])
    found = {"output": output.detach().numpy(), "state": held, "names": np.array(sorted(used)), "slopes": named.told(used)}
    return {f"{name}/{part}": value for part, value in found.items()}


def resnet(name: str, norm: Any, stages: int, pictures: torch.Tensor) -> dict[str, np.ndarray]:
    """Of one block in each of the first `stages`, but two in the second."""
    model = torchvision.models.resnet.ResNet(torchvision.models.resnet.BasicBlock, [1, 2, 1, 1], **({"norm_layer": norm} if norm else {}))
    if not norm:  # as LeRobot's diffusion policy does
        groups = lambda part: torch.nn.GroupNorm(part.num_features // 16, part.num_features)  # noqa: E731
        model = _replace_submodules(model, lambda part: isinstance(part, torch.nn.BatchNorm2d), groups)
    body = torch.nn.Sequential(OrderedDict(list(model.named_children())[: 4 + stages]))
    return told(filled(body, "resnet/"), body(pictures).permute(0, 2, 3, 1), name)


def main() -> None:
    found = resnet("resnet_batch", FrozenBatchNorm2d, 3, torch.from_numpy(named.draws("pictures", (2, 3, 40, 33))))
    found |= resnet("resnet_group", None, 2, torch.from_numpy(named.draws("pictures", (2, 3, 40, 33))))
    pictures = torch.from_numpy(named.draws("squares", (2, 3, 24, 24)))

    clip = filled(CLIPVisionModel(CLIPVisionConfig(intermediate_size=32, **SMALL)), "clip/")
    seen = clip(pictures)
    patches = clip.vision_model.post_layernorm(seen.last_hidden_state[:, 1:])
    found |= told(clip, torch.cat([seen.pooler_output[:, None], patches], 1), "clip")

    siglip = filled(SiglipVisionModel(SiglipVisionConfig(intermediate_size=32, **SMALL)), "siglip/")
    found |= told(siglip, siglip(pictures).last_hidden_state, "siglip")

    registers = filled(Dinov2WithRegistersModel(Dinov2WithRegistersConfig(mlp_ratio=2, num_register_tokens=2, **SMALL)), "dinov2/")
    found |= told(registers, registers(pictures).last_hidden_state, "dinov2_registers")

    dino = filled(Dinov2Model(Dinov2Config(mlp_ratio=2, **SMALL)), "dinov2/")
    larger = torch.from_numpy(named.draws("larger", (2, 3, 40, 40)))
    found |= told(dino, dino(larger).last_hidden_state, "dinov2_larger")  # whose positions are those of 24 x 24, resized

    pool = filled(SpatialSoftmax((6, 4, 5), num_kp=3), "pool/")
    found |= told(pool, pool(torch.from_numpy(named.draws("map", (2, 6, 4, 5)))), "pool")
    named.write(__file__, found, "torch", "torchvision", "transformers", "lerobot")


if __name__ == "__main__":
    main()
