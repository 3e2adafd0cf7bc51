"""The transformer of Diffusion Policy (Chi et al. 2023), put together of torch's own layers, since the published one cannot be installed.

    python tests/golden/lerobot_transformer_denoiser.py [FILE]      # run by a Python that has torch; writes .npz beside itself

`tests/networks/test_transformer_denoiser.py` compares. Parameters are under their names in torch.
"""

import math
from typing import NamedTuple

import named
import numpy as np
import torch
from torch import Tensor, nn

BATCH = 3


class Sizes(NamedTuple):
    observed: int = 2
    state: int = 3
    action: int = 2
    horizon: int = 5
    size: int = 16
    heads: int = 2
    layers: int = 2
    dropout: float = 0.0


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

    def __init__(self, cond_layers: int, sizes: Sizes) -> None:
        super().__init__()
        self.sizes, size, heads = sizes, sizes.size, sizes.heads
        options = {"dim_feedforward": 4 * size, "dropout": sizes.dropout, "activation": "gelu", "batch_first": True, "norm_first": True}
        self.input_emb, self.cond_obs_emb = nn.Linear(sizes.action, size), nn.Linear(sizes.state, size)
        self.pos_emb = nn.Parameter(0.02 * torch.randn(1, sizes.horizon, size))
        self.cond_pos_emb = nn.Parameter(0.02 * torch.randn(1, sizes.observed + 1, size))
        if cond_layers:
            layer = nn.TransformerEncoderLayer(size, heads, **options)
            self.encoder = nn.TransformerEncoder(layer, cond_layers, enable_nested_tensor=False)
        else:
            self.encoder = nn.Sequential(nn.Linear(size, 4 * size), nn.Mish(), nn.Linear(4 * size, size))
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(size, heads, **options), sizes.layers)
        self.ln_f, self.head = nn.LayerNorm(size), nn.Linear(size, sizes.action)

    def forward(self, noisy: Tensor, step: Tensor, observation: Tensor) -> Tensor:
        size, horizon, tokens = self.sizes.size, self.sizes.horizon, self.sizes.observed + 1
        frequency = torch.exp(torch.arange(size // 2) * (-math.log(10000) / (size // 2 - 1)))
        angle = step[:, None] * frequency[None]
        time = torch.cat([angle.sin(), angle.cos()], -1)[:, None]
        memory = self.encoder(torch.cat([time, self.cond_obs_emb(observation)], 1) + self.cond_pos_emb)
        t, s = torch.meshgrid(torch.arange(horizon), torch.arange(tokens), indexing="ij")
        hidden = [
            torch.full(allowed.shape, -math.inf).masked_fill(allowed, 0.0)
            for allowed in (torch.ones(horizon, horizon).tril() > 0, t >= s - 1)
        ]
        x = self.decoder(self.input_emb(noisy) + self.pos_emb, memory, tgt_mask=hidden[0], memory_mask=hidden[1])
        return self.head(self.ln_f(x))


def main() -> None:
    torch.manual_seed(0)
    sizes = Sizes()
    noisy, target = (keep(name, torch.randn(BATCH, sizes.horizon, sizes.action)) for name in ("noisy", "target"))
    step, observation = keep("step", torch.tensor([0, 42, 99])), keep("observation", torch.randn(BATCH, sizes.observed, sizes.state))
    for cond_layers in (0, 1):
        network, name = Transformer(cond_layers, sizes), f"cond_layers_{cond_layers}"
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)  # nowhere at 0 or 1, so that each counts
        for part, value in network.named_parameters():
            keep(f"{name}/parameter/{part}", value)
        loss = (keep(f"{name}/output", network(noisy, step, observation)) - target).square().mean()
        loss.backward()
        keep(f"{name}/loss", loss)
        for part in GRADIENTS:
            keep(f"{name}/gradient/{part}", dict(network.named_parameters())[part].grad)
    named.write(__file__, found, "torch")


if __name__ == "__main__":
    main()
