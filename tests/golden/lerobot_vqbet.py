"""What VQ-BeT of LeRobot (0.4.4) computes, with all that it is given: features stand in the place of its image.

    python tests/golden/lerobot_vqbet.py [FILE]         # run by a Python that has LeRobot; writes lerobot_vqbet.npz beside itself

`tests/objectives/test_vqbet_golden.py` compares. Parameters are under their names in torch.
"""

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
from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig  # noqa: E402
from lerobot.policies.vqbet.modeling_vqbet import MLP, VQBeTModel  # noqa: E402

BATCH, FEATURES, STATE, ACTION, CHUNK = 4, 3, 2, 2, 3
SIZES = {"gpt_block_size": 20, "gpt_input_dim": 16, "gpt_output_dim": 16, "gpt_hidden_dim": 16, "gpt_n_layer": 2, "gpt_n_head": 2}
SIZES |= {"vqvae_n_embed": 5, "vqvae_embedding_dim": 6, "vqvae_enc_hidden_dim": 8, "dropout": 0.0, "action_chunk_size": CHUNK}
GRADIENTS = (
    "action_token",
    "state_projector.0.weight",
    "policy.transformer.wpe.weight",
    "policy.transformer.h.0.attn.c_attn.weight",
    "policy.transformer.h.1.mlp.2.weight",
    "policy.lm_head.weight",
    "action_head.map_to_cbet_preds_bin.0.weight",
    "action_head.map_to_cbet_preds_offset.0.weight",
)
found: dict[str, np.ndarray] = {}


def keep(name: str, value: torch.Tensor) -> torch.Tensor:
    found[name] = value.detach().numpy().copy()
    return value


class Given(torch.nn.Module):
    """Features as they are, in place of what an image comes to."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def model(observed: int, queries: int) -> VQBeTModel:
    made = VQBeTModel(
        VQBeTConfig(
            n_obs_steps=observed,
            n_action_pred_token=queries,
            crop_shape=None,
            input_features={
                "observation.image": PolicyFeature(FeatureType.VISUAL, (3, 32, 32)),
                "observation.state": PolicyFeature(FeatureType.STATE, (STATE,)),
            },
            output_features={"action": PolicyFeature(FeatureType.ACTION, (ACTION,))},
            **SIZES,
        )
    )
    made.rgb_encoder = Given()
    made.rgb_feature_projector = MLP(FEATURES, [SIZES["gpt_input_dim"]])
    return made


def batch(name: str, observed: int, queries: int) -> dict[str, torch.Tensor]:
    return {
        "observation.images": keep(f"{name}/features", torch.randn(BATCH, observed, FEATURES))[:, :, None],
        "observation.state": keep(f"{name}/state", torch.randn(BATCH, observed, STATE)),
        "action": keep(f"{name}/action", torch.randn(BATCH, observed + queries + CHUNK - 2, ACTION).clamp(-1, 1)),
    }


def codes(policy: VQBeTModel) -> None:
    """A few steps of the first stage, of which the last is kept with what it began with."""
    vq, chunks = policy.action_head.vqvae_model, torch.randn(6, 16, CHUNK, ACTION).clamp(-1, 1)
    descent = torch.optim.Adam(vq.parameters(), 3e-3)
    for step, x in enumerate(chunks):
        if step == len(chunks) - 1:
            keep("codes/action", x)
            for name, value in vq.state_dict().items():
                keep(f"codes/before/{name}", value)
        descent.zero_grad()
        loss, metric = vq.vqvae_forward(x)
        loss.backward()
        if step < len(chunks) - 1:
            descent.step()
    keep("codes/loss", loss)
    keep("codes/distance", metric[0])
    keep("codes/codes", metric[2])
    for name in ("encoder.0.weight", "encoder.4.bias", "decoder.2.weight"):
        keep(f"codes/gradient/{name}", dict(vq.named_parameters())[name].grad)
    for name, value in vq.state_dict().items():
        keep(f"codes/after/{name}", value)
    vq.discretized = torch.tensor(True)
    vq.vq_layer.freeze_codebook = torch.tensor(True)


def rollout(policy: VQBeTModel) -> None:
    """What all queries put out, with a history of three steps and a query behind the present one."""
    seen = batch("rollout", 3, 2)
    output, _ = policy(seen, rollout=False)
    keep("rollout/logits", output["cbet_logits"].reshape(BATCH, -1, *output["cbet_logits"].shape[1:]))
    keep("rollout/codes", output["sampled_centers"].reshape(BATCH, -1, 2))
    keep("rollout/chunk", output["predicted_action"].reshape(BATCH, -1, CHUNK, ACTION))


def loss(policy: VQBeTModel) -> None:
    """With a history of one step every query has its actions in the batch."""
    output, told = policy(batch("loss", 1, 3), rollout=False)
    told["loss"].backward()
    keep("loss/codes", output["sampled_centers"].reshape(BATCH, -1, 2))
    keep("loss/value", told["loss"])
    for name in ("classification_loss", "offset_loss", "equal_primary_code_rate", "vq_action_error"):
        keep(f"loss/{name}", torch.tensor(told[name]))
    parameters = dict(policy.named_parameters())
    for name in GRADIENTS:
        keep(f"gradient/{name}", parameters[name].grad)


def main() -> None:
    torch.manual_seed(0)
    policy = model(3, 2)
    codes(policy)
    policy.eval()
    with torch.no_grad():  # a network that has learnt nothing tells all queries alike
        for name, value in policy.named_parameters():
            if not name.startswith("action_head.vqvae_model"):
                value += 0.2 * torch.randn_like(value)
    shared = {name: value for name, value in policy.state_dict().items() if name != "select_target_actions_indices"}
    for name, value in shared.items():
        if not name.endswith(".attn.bias"):  # their causal mask
            keep(f"parameter/{name}", value)
    rollout(policy)
    shorter = model(1, 3).eval()
    shorter.load_state_dict(shared, strict=False)
    loss(shorter)
    named.write(__file__, found, "lerobot", "torch")


if __name__ == "__main__":
    main()
