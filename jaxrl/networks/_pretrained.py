"""Weights that others have trained, from files of safetensors. Every number of ours has one of theirs, and every one of theirs is used."""

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.ops.paths import flatten_names, map_with_path
from jaxrl.types import Key, Params, PyTree, StatefulNetwork

Rule = str | Callable[[re.Match[str]], str]  # what `re.sub` puts in a pattern's place
Template = tuple[Params, PyTree]  # parameters and statistics, or their shapes
_HINT = "take the kind, norm and prefix that it is of"
_MOST_PADDING = 64  # rows that fill a table up to a number that is good to multiply by


class Naming(NamedTuple):
    """How others call what we call something else."""

    theirs: Callable[[str], str]  # path of ours -> name of theirs, in which * is the number of a layer that ours are stacked by
    unused: tuple[str, ...]  # patterns of what they have and we do not: heads, counters
    prefix: str  # of all their names
    padded: str = ""  # pattern of tables of ours that theirs may have a few rows behind


def _replaced(table: Mapping[str, Rule]) -> Callable[[str], str]:
    """The path with each pattern, in this order, replaced by what the table says."""

    def theirs(path: str) -> str:
        for pattern, replacement in table.items():
            path = re.sub(pattern, replacement, path)
        return path.replace("/", ".")

    return theirs


def _resnet(path: str) -> str:
    """torchvision counts stages and what is in a block from 1."""
    path = re.sub(r"^stage_(\d+)_block_", lambda found: f"layer{int(found[1]) + 1}.", path)
    path = re.sub(r"(conv|norm)_(\d)/", lambda found: f"{'bn' if found[1] == 'norm' else 'conv'}{int(found[2]) + 1}.", path)
    table: dict[str, Rule] = {"shortcut/": "downsample.0.", "shortcut_norm/": "downsample.1.", "^stem/": "conv1.", "^stem_norm/": "bn1."}
    return _replaced(table | {"(kernel|scale)$": "weight", "mean$": "running_mean", "variance$": "running_var"})(path)


_CLIP: dict[str, Rule] = {
    r"^layers/": "encoder/layers/*/",
    r"attention/(query|key|value)/": lambda found: f"self_attn/{found[1][0]}_proj/",
    r"attention/output/": "self_attn/out_proj/",
    r"attention_norm/": "layer_norm1/",
    r"mlp_norm/": "layer_norm2/",
    r"\*/hidden/": "*/mlp/fc1/",
    r"\*/output/": "*/mlp/fc2/",
    r"^class$": "embeddings/class_embedding",
    r"^positions$": "embeddings/position_embedding/weight",
    r"^patches/": "embeddings/patch_embedding/",
    r"^first_norm/": "pre_layrnorm/",  # so written
    r"^last_norm/": "post_layernorm/",
    r"/(kernel|scale)$": "/weight",
}
_DINO: dict[str, Rule] = {
    r"^layers/": "encoder/layer/*/",
    r"attention/(query|key|value)/": r"attention/attention/\1/",
    r"attention/output/": "attention/output/dense/",
    r"attention_norm/": "norm1/",
    r"mlp_norm/": "norm2/",
    r"attention_scale$": "layer_scale1/lambda1",
    r"mlp_scale$": "layer_scale2/lambda1",
    r"\*/hidden/": "*/mlp/fc1/",
    r"\*/output/": "*/mlp/fc2/",
    r"^class$": "embeddings/cls_token",
    r"^registers$": "embeddings/register_tokens",
    r"^positions$": "embeddings/position_embeddings",
    r"^patches/": "embeddings/patch_embeddings/projection/",
    r"^last_norm/": "layernorm/",
    r"/(kernel|scale)$": "/weight",
}
_LAST: dict[str, Rule] = {r"(kernel|scale)$": "weight"}
_DECODER: dict[str, Rule] = {
    r"^layers/": "model/layers/*/",
    r"\*/(query|key|value|output)/": lambda found: f"*/self_attn/{found[1][0]}_proj/",
    r"\*/(gate|up|down)/": r"*/mlp/\1_proj/",
    r"attention_norm/": "input_layernorm/",
    r"mlp_norm/": "post_attention_layernorm/",
    r"^embedding$": "model/embed_tokens/weight",
    r"^norm/": "model/norm/",
    r"^head/": "lm_head/",
    r"/(kernel|scale)$": "/weight",
}


def _paligemma(path: str) -> str:
    part, _, rest = path.partition("/")
    if part == "vision":
        return "vision_tower.vision_model." + _replaced(_CLIP)(rest)
    return "language_model." + _replaced(_DECODER)(rest) if part == "text" else "multi_modal_projector.linear." + _replaced(_LAST)(rest)


def _paligemma_newer(path: str) -> str:
    """As transformers keeps it in memory since 4.52, and some files have it."""
    return "model." + _paligemma(path).replace("language_model.model.", "language_model.")


_HEADS = (r"^(language_model\.)?lm_head\.weight$", r"vision_model\.head\.", r"position_ids$")
NAMINGS = {
    "resnet": Naming(_resnet, (r"^fc\.", r"num_batches_tracked$"), ""),
    "clip": Naming(_replaced(_CLIP), (r"position_ids$",), "vision_model."),
    "siglip": Naming(_replaced(_CLIP), (r"^head\.", r"position_ids$"), "vision_model."),
    "dinov2": Naming(_replaced(_DINO), (r"^embeddings\.mask_token$",), ""),
    "llama": Naming(_replaced(_DECODER), (r"rotary_emb\.inv_freq$",), ""),
    "gemma": Naming(
        _replaced(_DECODER), (r"^lm_head\.weight$",), "", r"(^|/)embedding$"
    ),  # which some files hold beside the table that it is
    "paligemma": Naming(_paligemma, _HEADS, "", r"^text/embedding$"),
    "paligemma_newer": Naming(_paligemma_newer, _HEADS, "", r"^text/embedding$"),
}


def _cubic(places: np.ndarray) -> np.ndarray:
    """The kernel of Keys (1981) with a slope of -0.75, torch's."""
    a, x = -0.75, np.abs(places)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _spread(old: int, new: int) -> np.ndarray:
    """[new, old]: what each of the old ones counts in each of the new, whose borders are theirs; beyond the border it goes on as there."""
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    weights, first = np.zeros((new, old)), np.floor(centre).astype(int) - 1
    for offset in range(4):
        place = first + offset
        np.add.at(weights, (np.arange(new), np.clip(place, 0, old - 1)), _cubic(centre - place))
    return weights


def resized_positions(table: np.ndarray, number: int, first: int) -> np.ndarray:
    """A table of positions [n, width], of a square behind `first` tokens, for another square; `number` are all rows of the new table.

    As torch's bicubic interpolation, which DINOv2 is resized by.
    """
    old, new = (round((rows - first) ** 0.5) for rows in (len(table), number))
    spread = _spread(old, new)
    resized = np.einsum("yo,opw,xp->yxw", spread, table[first:].reshape(old, old, -1).astype(np.float64), spread)
    return np.concatenate([table[:first], resized.reshape(new * new, -1).astype(table.dtype)])


def _square(rows: int) -> bool:
    return rows > 0 and round(rows**0.5) ** 2 == rows


def _ours(path: str, theirs: np.ndarray, shape: tuple[int, ...], first: int) -> np.ndarray | None:
    """Their array as ours, of one layer; None where it does not fit."""
    if path.endswith("kernel"):
        turned = theirs.transpose(2, 3, 1, 0) if theirs.ndim == 4 else theirs.T
        fits = turned.shape == shape or (theirs.ndim == 4 and turned.reshape(-1, turned.shape[-1]).shape == shape)
        return turned.reshape(shape) if fits else None
    if path.rpartition("/")[2] == "positions":
        table = theirs.reshape(-1, theirs.shape[-1])
        fits = table.shape[1] == shape[1] and _square(len(table) - first) and _square(shape[0] - first)
        return (table if len(table) == shape[0] else resized_positions(table, shape[0], first)) if fits else None
    return theirs.reshape(shape) if tuple(n for n in theirs.shape if n > 1) == tuple(n for n in shape if n > 1) else None


def _names(leaves: Mapping[str, Any], naming: Naming, prefix: str) -> dict[str, list[str]]:
    """Of each leaf the names of theirs, one for each layer where ours are stacked."""
    found = {}
    for path, leaf in leaves.items():
        name = prefix + naming.theirs(path)
        found[path] = [name.replace("*", str(i)) for i in range(leaf.shape[0])] if "*" in name else [name]
    return found


def listed(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def among(patterns: Sequence[str], path: str) -> bool:
    """Whether one of the patterns is found in it."""
    return any(re.search(pattern, path) for pattern in patterns)


def _without_padding(name: str, theirs: np.ndarray, rows: int) -> np.ndarray:
    """A table without what fills it up behind `rows`; as it is where that is not all there is to it. Tells what is left out."""
    if theirs.ndim != 2 or not 0 < len(theirs) - rows <= _MOST_PADDING:
        return theirs
    warnings.warn(f"{name}: rows {rows} to {len(theirs) - 1} are no tokens of this network, but padding, and are left out", stacklevel=2)
    return theirs[:rows]


def placed(
    template: Template,
    naming: Naming,
    names: Sequence[str],
    read: Callable[[str], np.ndarray],
    where: str,
    prefix: str | None = None,
    fresh: Sequence[str] = (),
    hint: str = _HINT,
) -> Template:
    """The arrays called `names`, which `read` gives, as parameters and statistics like `template`, float32.

    `prefix` is that of all their names, by default the naming's; whatever is called otherwise, such as a language model, is left alone.
    Ours that one of the patterns `fresh` is found in stay as they are in `template`, and theirs need not be used.

    Raises:
        ValueError: some of ours are not there, some of theirs are not used, or shapes differ; tells which.
    """
    prefix = naming.prefix if prefix is None else prefix
    own = [name for name in names if name.startswith(prefix)]
    spare = {name for name in own if among(naming.unused, name.removeprefix(prefix)) or among(fresh, name)}
    leaves = {path: leaf for part in template for path, leaf in flatten_names(part).items() if not among(fresh, path)}
    wanted = _names(leaves, naming, prefix)
    needed = [name for layers in wanted.values() for name in layers]
    missing, left = sorted(set(needed) - set(own)), sorted(set(own) - set(needed) - spare)
    if missing or left:
        faults = [f"lacks {listed(missing)}"] * bool(missing) + [f"has what this network does not: {listed(left)}"] * bool(left)
        begin = f"; its names begin with {listed(sorted({name.split('.')[0] for name in names}))}" if not own else ""
        raise ValueError(f"{where}, read with the prefix {prefix!r}, {' and '.join(faults)}{begin}; {hint}")
    first = int("class" in leaves)

    def leaf(path: str, ours: Any) -> Any:
        if path not in leaves:
            return ours
        stacked = "*" in naming.theirs(path)
        layers = []
        for name in wanted[path]:
            theirs = read(name)
            if naming.padded and re.search(naming.padded, path):
                theirs = _without_padding(name, theirs, ours.shape[0])
            one = _ours(path, theirs, ours.shape[1:] if stacked else ours.shape, first)
            if one is None:
                raise ValueError(f"{where}: {name} has the shape {theirs.shape}, which does not become {path} {ours.shape} of this network")
            layers.append(one.astype(np.float32))
        return np.stack(layers) if stacked else layers[0]

    params, statistics = (map_with_path(leaf, part) for part in template)
    return params, statistics


class Held(NamedTuple):
    """What lies in files of safetensors."""

    names: list[str]
    read: Callable[[str], np.ndarray]  # the array of a name
    metadata: dict[str, str]


@contextlib.contextmanager
def holding(path: str | Path) -> Iterator[Held]:
    """A file of safetensors, or all of a folder, while the block lasts. Raises ValueError where there is no such file."""
    import safetensors

    files = sorted(Path(path).glob("*.safetensors")) if Path(path).is_dir() else [Path(path)]
    if not files or not files[0].is_file():
        raise ValueError(f"{path}: no such file of weights")
    with contextlib.ExitStack() as opened:
        held: dict[str, Any] = {}
        metadata: dict[str, str] = {}
        for file in files:
            try:
                part = opened.enter_context(safetensors.safe_open(str(file), "numpy"))
            except safetensors.SafetensorError as error:
                raise ValueError(f"{file}: no file of safetensors, or not all of it: {error}") from error
            held |= dict.fromkeys(part.keys(), part)
            metadata |= part.metadata() or {}
        yield Held(list(held), lambda name: held[name].get_tensor(name), metadata)


def load(path: str | Path, template: Template, naming: Naming, prefix: str | None = None) -> Template:
    """A file of safetensors, or all of a folder, as parameters and statistics like `template`; numbers of 16 bits become float32.

    Raises:
        ValueError: there is no such file, or as `placed` does.
    """
    with holding(path) as held:
        return placed(template, naming, held.names, held.read, str(path), prefix)


def from_file(network: StatefulNetwork, naming: Naming, path: str, prefix: str | None = None) -> StatefulNetwork:
    """The network with parameters and statistics out of a file in place of random ones.

    The file is read where `init` runs, not where it is traced: whoever only asks for the shapes, such as a robot that has a checkpoint,
    needs no file.
    """

    def init(key: Key) -> tuple[Params, PyTree]:
        shapes = jax.eval_shape(network.init, key)
        return jax.pure_callback(lambda: load(path, shapes, naming, prefix), shapes)

    return network._replace(init=init)
