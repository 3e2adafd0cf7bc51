"""The transformer of Diffusion Policy (Chi et al. 2023), put together of torch's own layers, since the published one cannot be installed.

    python tests/golden/lerobot_transformer_denoiser.py [FILE]      # run by a Python that has torch; writes .npz beside itself

`tests/networks/test_transformer_denoiser.py` compares. Parameters are under their names in torch.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

BATCH, OBSERVED, STATE, ACTION, HORIZON, SIZE, HEADS = 3, 2, 3, 2, 5, 16, 2
GRADIENTS = (
    "decoder.layers.0.self_attn.in_proj_weight",
    "decoder.layers.1.multihead_attn.out_proj.weight",
    "cond_obs_emb.weight",
    "pos_emb",
)
found: dict[str, np.ndarray] = {}


def keep(name: str, value: Tensor) -> Tensor:
    found[name] = value.detach().numpy().copy()
    return value


class Transformer(nn.Module):
    """Its parts have the names that they have in the published code."""

    def __init__(self, cond_layers: int) -> None:
        super().__init__()
        options = {"dim_feedforward": 4 * SIZE, "dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        self.input_emb, self.cond_obs_emb = nn.Linear(ACTION, SIZE), nn.Linear(STATE, SIZE)
        self.pos_emb = nn.Parameter(0.02 * torch.randn(1, HORIZON, SIZE))
        self.cond_pos_emb = nn.Parameter(0.02 * torch.randn(1, OBSERVED + 1, SIZE))
        if cond_layers:
            layer = nn.TransformerEncoderLayer(SIZE, HEADS, **options)
            self.encoder = nn.TransformerEncoder(layer, cond_layers, enable_nested_tensor=False)
        else:
            self.encoder = nn.Sequential(nn.Linear(SIZE, 4 * SIZE), nn.Mish(), nn.Linear(4 * SIZE, SIZE))
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(SIZE, HEADS, **options), 2)
        self.ln_f, self.head = nn.LayerNorm(SIZE), nn.Linear(SIZE, ACTION)

    def forward(self, noisy: Tensor, step: Tensor, observation: Tensor) -> Tensor:
        frequency = torch.exp(torch.arange(SIZE // 2) * (-math.log(10000) / (SIZE // 2 - 1)))
        angle = step[:, None] * frequency[None]
        time = torch.cat([angle.sin(), angle.cos()], -1)[:, None]
        memory = self.encoder(torch.cat([time, self.cond_obs_emb(observation)], 1) + self.cond_pos_emb)
        t, s = torch.meshgrid(torch.arange(HORIZON), torch.arange(OBSERVED + 1), indexing="ij")
        hidden = [
            torch.full(allowed.shape, -math.inf).masked_fill(allowed, 0.0)
            for allowed in (torch.ones(HORIZON, HORIZON).tril() > 0, t >= s - 1)
        ]
        x = self.decoder(self.input_emb(noisy) + self.pos_emb, memory, tgt_mask=hidden[0], memory_mask=hidden[1])
        return self.head(self.ln_f(x))


def main() -> None:
    torch.manual_seed(0)
    noisy, target = keep("noisy", torch.randn(BATCH, HORIZON, ACTION)), keep("target", torch.randn(BATCH, HORIZON, ACTION))
    step, observation = keep("step", torch.tensor([0, 42, 99])), keep("observation", torch.randn(BATCH, OBSERVED, STATE))
    for cond_layers in (0, 1):
        network, name = Transformer(cond_layers), f"cond_layers_{cond_layers}"
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)  # nowhere at 0 or 1, so that each counts
        for part, value in network.named_parameters():
            keep(f"{name}/parameter/{part}", value)
        loss = (keep(f"{name}/output", network(noisy, step, observation)) - target).square().mean()
        loss.backward()
        keep(f"{name}/loss", loss)
        for part in GRADIENTS:
            keep(f"{name}/gradient/{part}", dict(network.named_parameters())[part].grad)
    file, versions = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".npz"), {"torch": torch.__version__}
    np.savez_compressed(file, versions=json.dumps(versions), **found)
    print(file, file.stat().st_size, versions)


if __name__ == "__main__":
    main()
