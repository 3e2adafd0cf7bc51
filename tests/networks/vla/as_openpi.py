"""What openpi computes of a tree of its own, pi0 or pi0.5, in numpy and by its masks: one row, with padding in its place."""

from collections.abc import Mapping
from typing import Any

import numpy as np

LLM, IMG = "PaliGemma/llm/", "PaliGemma/img/"


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def swish(x):
    return x / (1 + np.exp(-x))


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def dense(tree: Mapping[str, Any], name: str, x):
    return x @ tree[f"{name}/kernel"] + tree[f"{name}/bias"]


def sight(tree, picture):
    """Tokens of a picture [height, width, 3] in [-1, 1]."""

    def norm(x, name, i=...):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * tree[f"{name}/scale"][i] + tree[f"{name}/bias"][i]

    kernel = tree[f"{IMG}embedding/kernel"]
    size, block = kernel.shape[0], f"{IMG}Transformer/encoderblock/"
    cut = [picture[i : i + size, j : j + size] for i in range(0, len(picture), size) for j in range(0, len(picture), size)]
    x = np.array([np.einsum("ijc,ijcd->d", patch, kernel) for patch in cut]) + tree[f"{IMG}embedding/bias"]
    x = x + tree[f"{IMG}pos_embedding"][0]
    for i in range(len(tree[f"{block}LayerNorm_0/scale"])):
        attention = f"{block}MultiHeadDotProductAttention_0/"
        y = norm(x, f"{block}LayerNorm_0", i)
        query, key, value = (
            np.einsum("td,dnh->tnh", y, tree[f"{attention}{part}/kernel"][i]) + tree[f"{attention}{part}/bias"][i]
            for part in ("query", "key", "value")
        )
        chances = softmax(np.einsum("tnh,snh->nts", query, key) / np.sqrt(query.shape[-1]))
        mixed = np.einsum("nts,snh->tnh", chances, value)
        x = x + np.einsum("tnh,nhd->td", mixed, tree[f"{attention}out/kernel"][i]) + tree[f"{attention}out/bias"][i]
        y = norm(x, f"{block}LayerNorm_1", i) @ tree[f"{block}MlpBlock_0/Dense_0/kernel"][i] + tree[f"{block}MlpBlock_0/Dense_0/bias"][i]
        x = x + gelu(y) @ tree[f"{block}MlpBlock_0/Dense_1/kernel"][i] + tree[f"{block}MlpBlock_0/Dense_1/bias"][i]
    return dense(tree, f"{IMG}head", norm(x, f"{IMG}Transformer/encoder_norm"))


def mixture(tree, xs, condition, valid, starts):
    """Tokens of both sets of weights [[T, width], [S, width]] behind all layers."""
    block = np.cumsum(starts)
    mask = (block[None] <= block[:, None]) & valid[None] & valid[:, None]
    places = np.cumsum(valid) - 1

    def norm(x, name, i=...):
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        if f"{LLM}{name}/scale" in tree:
            return x * (1 + tree[f"{LLM}{name}/scale"][i]), 1.0
        of = f"{LLM}{name}/Dense_0"
        scale, shift, gate = np.split(condition @ tree[f"{of}/kernel"][i] + tree[f"{of}/bias"][i], 3)
        return x * (1 + scale) + shift, gate

    def turned(x):
        half = x.shape[-1] // 2
        angles = (places[:, None] / 1e4 ** (np.arange(half) / half))[:, None]
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], -1)

    ends = [len(xs[0])]
    for i in range(len(tree[f"{LLM}layers/attn/q_einsum/w"])):
        asked, gates = [], []
        for mark, x in zip(("", "_1"), xs, strict=True):
            y, gate = norm(x, f"layers/pre_attention_norm{mark}", i)
            pair = np.einsum("td,ckdh->ctkh", y, tree[f"{LLM}layers/attn/kv_einsum{mark}/w"][i])
            asked.append((np.einsum("td,ndh->tnh", y, tree[f"{LLM}layers/attn/q_einsum{mark}/w"][i]), *pair))
            gates.append(gate)
        query, key, value = (np.concatenate(part) for part in zip(*asked, strict=True))
        query, key = turned(query) * query.shape[-1] ** -0.5, turned(key)
        groups = query.shape[1] // key.shape[1]
        key, value = np.repeat(key, groups, 1), np.repeat(value, groups, 1)
        logits = np.where(mask[None], np.einsum("tnh,snh->nts", query, key), -2.3819763e38)
        mixed = np.split(np.einsum("nts,snh->tnh", softmax(logits), value), ends)
        for j, mark in enumerate(("", "_1")):
            x = xs[j] + gates[j] * np.einsum("tnh,nhd->td", mixed[j], tree[f"{LLM}layers/attn/attn_vec_einsum{mark}/w"][i])
            y, gate = norm(x, f"layers/pre_ffw_norm{mark}", i)
            wide = np.einsum("td,cdm->ctm", y, tree[f"{LLM}layers/mlp{mark}/gating_einsum"][i])
            xs[j] = x + gate * ((gelu(wide[0]) * wide[1]) @ tree[f"{LLM}layers/mlp{mark}/linear"][i])
    return [norm(x, f"final_norm{mark}")[0] for mark, x in zip(("", "_1"), xs, strict=True)]


def waves(time: float, size: int):
    period = 4e-3 * (4.0 / 4e-3) ** np.linspace(0, 1, size // 2)
    return np.concatenate([np.sin(2 * np.pi * time / period), np.cos(2 * np.pi * time / period)])


def velocity(tree, pictures, there, prompt, state, noisy, time: float):
    """[H, A] of pictures [cameras, height, width, 3], of which some are `there`, and a prompt with -1 as padding."""
    tree = {name: np.asarray(x, np.float64) for name, x in tree.items()}
    table = tree[f"{LLM}embedder/input_embedding"]
    patches = [sight(tree, picture) for picture in pictures]
    words = table[np.maximum(prompt, 0)] * np.sqrt(table.shape[1])
    valid = np.concatenate([*(np.full(len(part), seen) for part, seen in zip(patches, there, strict=True)), prompt >= 0])
    prefix, tokens, condition = np.concatenate([*patches, words]), dense(tree, "action_in_proj", noisy), None
    wave, first = waves(time, tokens.shape[1]), [1] + [0] * (len(noisy) - 1)
    if "time_mlp_in/kernel" in tree:
        condition = swish(dense(tree, "time_mlp_out", swish(dense(tree, "time_mlp_in", wave))))
    else:
        both = np.concatenate([tokens, np.tile(wave, (len(noisy), 1))], 1)
        tokens = dense(tree, "action_time_mlp_out", swish(dense(tree, "action_time_mlp_in", both)))
        tokens, first = np.concatenate([dense(tree, "state_proj", state)[None], tokens]), [1, *first]
    valid, starts = np.concatenate([valid, np.ones(len(tokens), bool)]), np.concatenate([np.zeros(len(prefix), int), first])
    after = mixture(tree, [prefix, tokens], condition, valid, starts)[1]
    return dense(tree, "action_out_proj", after[-len(noisy) :])
