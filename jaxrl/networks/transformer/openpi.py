"""Parameters that openpi has trained (https://github.com/Physical-Intelligence/openpi), as ours: one table of names and of axes.

Theirs are those of PaliGemma in big_vision, with the action expert among them under the same names and "_1".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.networks._pretrained import among, listed
from jaxrl.ops.paths import flatten_names, map_with_path
from jaxrl.types import Params

_SETS = {"text": "", "action": "_1"}
_LLM, _IMG = "PaliGemma/llm/", "PaliGemma/img/"
_BLOCK = f"{_IMG}Transformer/encoderblock/"
_OF_SET = r"^(?P<set>text|action)/"

Turn = Callable[[np.ndarray], np.ndarray]


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _heads(x: np.ndarray) -> np.ndarray:
    """[layers, heads, width, head_dim], of which heads and head_dim become the outputs, side by side."""
    return x.swapaxes(1, 2)


# Ours, theirs ({} is the mark of the set), and what becomes of theirs before it takes our shape.
TABLE: tuple[tuple[str, str, Turn], ...] = (
    (f"{_OF_SET}layers/query/kernel$", f"{_LLM}layers/attn/q_einsum{{}}/w", _heads),
    (f"{_OF_SET}layers/key/kernel$", f"{_LLM}layers/attn/kv_einsum{{}}/w", lambda x: _heads(x[:, 0])),
    (f"{_OF_SET}layers/value/kernel$", f"{_LLM}layers/attn/kv_einsum{{}}/w", lambda x: _heads(x[:, 1])),
    (f"{_OF_SET}layers/output/kernel$", f"{_LLM}layers/attn/attn_vec_einsum{{}}/w", _same),
    (f"{_OF_SET}layers/gate/kernel$", f"{_LLM}layers/mlp{{}}/gating_einsum", lambda x: x[:, 0]),
    (f"{_OF_SET}layers/up/kernel$", f"{_LLM}layers/mlp{{}}/gating_einsum", lambda x: x[:, 1]),
    (f"{_OF_SET}layers/down/kernel$", f"{_LLM}layers/mlp{{}}/linear", _same),
    (f"{_OF_SET}layers/attention_norm/scale$", f"{_LLM}layers/pre_attention_norm{{}}/scale", _same),
    (f"{_OF_SET}layers/attention_norm/modulation/(kernel|bias)$", rf"{_LLM}layers/pre_attention_norm{{}}/Dense_0/\2", _same),
    (f"{_OF_SET}layers/mlp_norm/scale$", f"{_LLM}layers/pre_ffw_norm{{}}/scale", _same),
    (f"{_OF_SET}layers/mlp_norm/modulation/(kernel|bias)$", rf"{_LLM}layers/pre_ffw_norm{{}}/Dense_0/\2", _same),
    (f"{_OF_SET}norm/scale$", f"{_LLM}final_norm{{}}/scale", _same),
    (f"{_OF_SET}norm/modulation/(kernel|bias)$", rf"{_LLM}final_norm{{}}/Dense_0/\2", _same),
    (r"^text/embedding$", f"{_LLM}embedder/input_embedding", _same),
    (r"^vision/patches/(kernel|bias)$", rf"{_IMG}embedding/\1", _same),
    (r"^vision/positions$", f"{_IMG}pos_embedding", _same),
    (r"^vision/layers/attention/(query|key|value)/(kernel|bias)$", rf"{_BLOCK}MultiHeadDotProductAttention_0/\1/\2", _same),
    (r"^vision/layers/attention/output/(kernel|bias)$", rf"{_BLOCK}MultiHeadDotProductAttention_0/out/\1", _same),
    (r"^vision/layers/attention_norm/(scale|bias)$", rf"{_BLOCK}LayerNorm_0/\1", _same),
    (r"^vision/layers/mlp_norm/(scale|bias)$", rf"{_BLOCK}LayerNorm_1/\1", _same),
    (r"^vision/layers/hidden/(kernel|bias)$", rf"{_BLOCK}MlpBlock_0/Dense_0/\1", _same),
    (r"^vision/layers/output/(kernel|bias)$", rf"{_BLOCK}MlpBlock_0/Dense_1/\1", _same),
    (r"^vision/last_norm/(scale|bias)$", rf"{_IMG}Transformer/encoder_norm/\1", _same),
    (r"^projector/(kernel|bias)$", rf"{_IMG}head/\1", _same),
)


def theirs(path: str) -> tuple[str, Turn]:
    """The name of what they call `path`, and what it takes to make it ours but for the shape; a name of no pattern is the same."""
    for pattern, name, turn in TABLE:
        if found := re.search(pattern, path):
            mark = _SETS[found["set"]] if "set" in found.groupdict() else ""
            return found.expand(name.replace("{}", mark)), turn
    return path, _same


def placed(arrays: Mapping[str, np.ndarray], template: Params, fresh: Sequence[str] = ()) -> Params:
    """Their parameters by name, "PaliGemma/llm/final_norm/scale", as parameters like `template`, in the types that they have.

    Where one of the patterns `fresh` is found in a path of ours, that stays as it is in `template`; where one is found in a name of theirs,
    that need not be used.

    Raises:
        ValueError: some of ours are not there, some of theirs are not used, sizes differ, or a pattern is found nowhere; tells which.
    """
    if unknown := [pattern for pattern in fresh if not any(re.search(pattern, name) for name in (*flatten_names(template), *arrays))]:
        raise ValueError(f"fresh: the pattern {unknown[0]!r} is found in no parameter, neither of this network nor of openpi")
    names = {path: theirs(path)[0] for path in flatten_names(template) if not among(fresh, path)}
    used = set(names.values())
    missing, left = sorted(used - set(arrays)), sorted(name for name in set(arrays) - used if not among(fresh, name))
    if missing or left:
        faults = [f"lack {listed(missing)}"] * bool(missing) + [f"have what this network does not: {listed(left)}"] * bool(left)
        raise ValueError(f"parameters of openpi {' and '.join(faults)}")

    odd = []

    def leaf(path: str, ours: Any) -> Any:
        if path not in names:
            return ours
        name, turn = theirs(path)
        array = turn(np.asarray(arrays[name]))
        if array.size != np.prod(ours.shape) or (array.shape[-1] != ours.shape[-1] and array.ndim < 3):
            odd.append(f"{name} of openpi has the shape {arrays[name].shape}, which does not become {path} {ours.shape}")
            return ours
        return array.reshape(ours.shape)

    params = map_with_path(leaf, template)
    if odd:
        raise ValueError(f"this network has another size: {listed(odd)}")
    return params


def is_checkpoint(folder: str | Path) -> bool:
    """Whether orbax has written to the folder, or to `params` in it."""
    return any((Path(folder) / part / name).exists() for part in ("", "params") for name in ("_METADATA", "manifest.ocdbt"))


def read(folder: str | Path) -> dict[str, np.ndarray]:
    """The parameters by name of a checkpoint of openpi, or of the folder `params` in one, on the host and in the types that they have.

    Raises:
        ValueError: there is no such checkpoint.
    """
    import orbax.checkpoint as ocp

    where = Path(folder).absolute()
    where = where / "params" if (where / "params").is_dir() else where
    if not is_checkpoint(where):
        raise ValueError(f"{folder}: no checkpoint of openpi, which is a folder that has a folder params, written by orbax")
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(where).item_metadata.tree
        arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        arrays = flatten_names(checkpointer.restore(where, ocp.args.PyTreeRestore(restore_args=arguments)))
    if any(not name.startswith("params/") for name in arrays):
        raise ValueError(f"{folder}: no checkpoint of openpi, whose names begin with params; these do not: {listed(sorted(arrays))}")
    ending = "/value" if all(name.endswith("/value") for name in arrays) else ""  # what openpi's own training writes
    return {name.removeprefix("params/").removesuffix(ending): array for name, array in arrays.items()}
