"""Parameters of torch modules as ours."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrl.types import Params


class Torch:
    """The arrays whose names begin with `prefix`, as layers of ours."""

    def __init__(self, arrays: Mapping[str, Any], prefix: str) -> None:
        self.arrays = {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}
        self.read: set[str] = set()

    def __call__(self, name: str) -> Any:
        self.read.add(name)
        return self.arrays[name]

    def dense(self, name: str) -> Params:
        """Linear, or a Conv1d with one tap."""
        weight = self(f"{name}.weight")
        return {"kernel": weight.reshape(weight.shape[:2]).T, "bias": self(f"{name}.bias")}

    def norm(self, name: str) -> Params:
        return {"scale": self(f"{name}.weight"), "bias": self(f"{name}.bias")}

    def convolution(self, name: str) -> Params:
        """Conv1d [outputs, inputs, taps] to [taps, inputs, outputs], ConvTranspose1d [inputs, outputs, taps] to [taps, outputs, inputs]."""
        return {"kernel": self(f"{name}.weight").transpose(2, 1, 0), "bias": self(f"{name}.bias")}

    def attention(self, name: str) -> Params:
        """MultiheadAttention, whose first matrix has the rows of query, key and value."""
        thirds = [np.split(np.asarray(self(f"{name}.in_proj_{kind}")), 3) for kind in ("weight", "bias")]
        joint = {part: {"kernel": w.T, "bias": b} for part, w, b in zip(("query", "key", "value"), *thirds, strict=True)}
        return joint | {"output": self.dense(f"{name}.out_proj")}

    def whole(self, params: Params) -> Params:
        """`params`, after all that torch has was read."""
        assert self.read == set(self.arrays), f"not read: {set(self.arrays) - self.read}"
        return params


def unet(arrays: Mapping[str, Any], prefix: str = "") -> Params:
    """LeRobot's DiffusionConditionalUnet1d."""
    torch = Torch(arrays, prefix)

    def residual(name: str) -> Params:
        made: Params = {"film": torch.dense(f"{name}.cond_encoder.1")}
        for i in range(2):
            made |= {
                f"convolution_{i}": torch.convolution(f"{name}.conv{i + 1}.block.0"),
                f"norm_{i}": torch.norm(f"{name}.conv{i + 1}.block.1"),
            }
        return made | ({"residual": torch.dense(f"{name}.residual_conv")} if f"{name}.residual_conv.weight" in torch.arrays else {})

    levels = 1 + max(int(name.split(".")[1]) for name in torch.arrays if name.startswith("down_modules"))
    params: dict[str, Any] = {
        "time_hidden": torch.dense("diffusion_step_encoder.1"),
        "time_output": torch.dense("diffusion_step_encoder.3"),
        "final_convolution": torch.convolution("final_conv.0.block.0"),
        "final_norm": torch.norm("final_conv.0.block.1"),
        "output": torch.dense("final_conv.1"),
    }
    for i in range(2):
        params[f"middle_{i}"] = residual(f"mid_modules.{i}")
        params |= {f"down_{level}_{i}": residual(f"down_modules.{level}.{i}") for level in range(levels)}
        params |= {f"up_{levels - 1 - place}_{i}": residual(f"up_modules.{place}.{i}") for place in range(levels - 1)}
    params |= {f"shrink_{level}": torch.convolution(f"down_modules.{level}.2") for level in range(levels - 1)}
    params |= {f"grow_{levels - 1 - place}": torch.convolution(f"up_modules.{place}.2") for place in range(levels - 1)}
    return torch.whole(params)


def transformer(arrays: Mapping[str, Any], prefix: str = "") -> Params:
    """The transformer of Diffusion Policy."""
    torch = Torch(arrays, prefix)
    numbers = lambda part: sorted({int(name.split(".")[2]) for name in torch.arrays if name.startswith(f"{part}.layers.")})  # noqa: E731

    def layer(name: str, norms: tuple[str, ...]) -> Params:
        """Norms are counted in the order of the sub-layers."""
        made: Params = {norm: torch.norm(f"{name}.norm{i + 1}") for i, norm in enumerate(norms)}
        made |= {"hidden": torch.dense(f"{name}.linear1"), "output": torch.dense(f"{name}.linear2")}
        made["self_attention"] = torch.attention(f"{name}.self_attn")
        return made | ({"cross_attention": torch.attention(f"{name}.multihead_attn")} if "cross_norm" in norms else {})

    params: dict[str, Any] = {
        "action": torch.dense("input_emb"),
        "action_positions": torch("pos_emb")[0],
        "observation": torch.dense("cond_obs_emb"),
        "condition_positions": torch("cond_pos_emb")[0],
        "output_norm": torch.norm("ln_f"),
        "output": torch.dense("head"),
    }
    params |= {f"layer_{i}": layer(f"decoder.layers.{i}", ("self_norm", "cross_norm", "hidden_norm")) for i in numbers("decoder")}
    params |= {f"condition_{i}": layer(f"encoder.layers.{i}", ("self_norm", "hidden_norm")) for i in numbers("encoder")}
    if not numbers("encoder"):
        params |= {"condition_hidden": torch.dense("encoder.0"), "condition_output": torch.dense("encoder.2")}
    return torch.whole(params)


def vqbet(arrays: Mapping[str, Any], length: int, codes: int, prefix: str = "") -> Params:
    """The transformer of LeRobot's VQBeTModel and its two heads, of so many tokens; the quantiser is `vqbet_codes`'."""
    torch = Torch({name: x for name, x in arrays.items() if "vqvae_model" not in name}, prefix)
    body = "policy.transformer"
    numbers = sorted({int(name.split(".")[3]) for name in torch.arrays if name.startswith(f"{body}.h.")})

    def block(name: str) -> Params:
        thirds = [np.split(np.asarray(torch(f"{name}.attn.c_attn.{kind}")), 3) for kind in ("weight", "bias")]
        made: Params = {part: {"kernel": w.T, "bias": b} for part, w, b in zip(("query", "key", "value"), *thirds, strict=True)}
        made |= {"attention_norm": torch.norm(f"{name}.ln_1"), "mixed": torch.dense(f"{name}.attn.c_proj")}
        return made | {
            "hidden_norm": torch.norm(f"{name}.ln_2"),
            "hidden": torch.dense(f"{name}.mlp.0"),
            "output": torch.dense(f"{name}.mlp.2"),
        }

    heads = [torch.dense(f"action_head.map_to_cbet_preds_{name}.0") for name in ("bin", "offset")]

    def beside(kind: str) -> np.ndarray:
        """Each code's logit, then its offset."""
        logit, offset = (np.asarray(head[kind]) for head in heads)
        axes, quantizers = logit.shape[:-1], logit.shape[-1] // codes
        both = [x.reshape(*axes, quantizers, codes, -1) for x in (logit, offset)]
        return np.concatenate(both, -1).reshape(*axes, -1)

    return torch.whole(
        {
            "query": torch("action_token")[0, 0],
            "group_0": torch.dense("rgb_feature_projector.0"),
            "group_1": torch.dense("state_projector.0"),
            "input": torch.dense(f"{body}.wte"),
            "positions": torch(f"{body}.wpe.weight")[:length],
            **{f"block_{i}": block(f"{body}.h.{i}") for i in numbers},
            "norm": torch.norm(f"{body}.ln_f"),
            "features": {"kernel": torch("policy.lm_head.weight").T},
            "output": {"kernel": beside("kernel"), "bias": beside("bias")},
        }
    )


def vqbet_codes(arrays: Mapping[str, Any], prefix: str = "") -> tuple[Params, dict[str, Any]]:
    """Encoder and decoder of LeRobot's VqVae, and its codebooks."""
    torch = Torch(arrays, prefix)
    parts = {part: {f"hidden_{i}": torch.dense(f"{part}.{2 * i}") for i in range(2)} for part in ("encoder", "decoder")}
    params = {part: layers | {"output": torch.dense(f"{part}.4")} for part, layers in parts.items()}
    books = [f"vq_layer.layers.{i}._codebook" for i in range(2)]
    names = {"vectors": "embed", "uses": "cluster_size", "total": "embed_avg"}
    for name in ("discretized", "vq_layer.freeze_codebook", *(f"{book}.initted" for book in books)):
        torch(name)
    kept = {ours: np.stack([np.asarray(torch(f"{book}.{theirs}"))[0] for book in books]) for ours, theirs in names.items()}
    return torch.whole(params), kept
