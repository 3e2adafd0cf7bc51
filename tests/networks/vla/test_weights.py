"""What networks on top of a PaliGemma begin with, out of safetensors as transformers and we write them."""

import functools

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxrl.networks.transformer import own
from jaxrl.networks.vla import _weights
from jaxrl.ops.paths import flatten_names
from tests.golden import named
from tests.networks.vla.small import KEY, SEEING, TEXT
from tests.networks.vla.test_openpi_trees import NETWORKS

SIGHT = SEEING.vision
SIDE = SIGHT.image // SIGHT.patch


def linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def siglip(prefix: str) -> dict[str, tuple[int, ...]]:
    """As transformers has it: torch keeps [outputs, inputs]."""
    wide = SIGHT.width
    norm = lambda name: {f"{name}.{part}": (wide,) for part in ("weight", "bias")}  # noqa: E731
    found = {"embeddings.patch_embedding.weight": (wide, 3, SIGHT.patch, SIGHT.patch), "embeddings.patch_embedding.bias": (wide,)}
    found |= {"embeddings.position_embedding.weight": (SIDE**2, wide)} | norm("post_layernorm")
    for i in range(SIGHT.depth):
        layer = f"encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= linear(f"{layer}.self_attn.{part}", wide, wide)
        found |= linear(f"{layer}.mlp.fc1", wide, SIGHT.mlp) | linear(f"{layer}.mlp.fc2", SIGHT.mlp, wide)
        found |= norm(f"{layer}.layer_norm1") | norm(f"{layer}.layer_norm2")
    return {f"{prefix}{name}": shape for name, shape in found.items()}


def gemma(prefix: str, rows: int) -> dict[str, tuple[int, ...]]:
    width, mlp, size = TEXT.width, TEXT.mlp, TEXT.head_dim
    found = {"model.embed_tokens.weight": (rows, width), "model.norm.weight": (width,)}
    for i in range(TEXT.depth):
        layer = f"model.layers.{i}"
        found |= {
            f"{layer}.self_attn.{part}_proj.weight": (heads * size, width) for part, heads in zip("qkv", (TEXT.heads, 1, 1), strict=True)
        }
        found |= {f"{layer}.self_attn.o_proj.weight": (width, TEXT.heads * size)}
        found |= {f"{layer}.mlp.{part}_proj.weight": (mlp, width) for part in ("gate", "up")} | {
            f"{layer}.mlp.down_proj.weight": (width, mlp)
        }
        found |= {f"{layer}.{part}_layernorm.weight": (width,) for part in ("input", "post_attention")}
    return {f"{prefix}{name}": shape for name, shape in found.items()}


@functools.cache
def paligemma(rows: int = TEXT.vocabulary) -> dict[str, np.ndarray]:
    shapes = siglip("vision_tower.vision_model.") | gemma("language_model.", rows)
    return named.weights(shapes | linear("multi_modal_projector.linear", SIGHT.width, TEXT.width))


def begun(kind: str, weights, *fresh: str):
    network = NETWORKS[kind](weights=str(weights), fresh=fresh) if weights else NETWORKS[kind]()
    return flatten_names(jax.jit(network.init)(KEY)[0])


@functools.cache
def at_random(kind: str):
    return begun(kind, None)


def template(kind: str):
    return jax.eval_shape(NETWORKS[kind]().init, KEY)[0]


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_paligemma_fills_what_sees_and_reads(kind, tmp_path):
    rough = {name: x.astype(ml_dtypes.bfloat16) for name, x in paligemma().items()}
    parts = list(rough.items())
    for i in range(2):
        save_file(dict(parts[i::2]), tmp_path / f"model-{i + 1}.safetensors")
    params = begun(kind, tmp_path)
    ours = {path: x for path, x in params.items() if path.split("/")[0] in ("vision", "projector", "text")}
    numbers = [np.sort(np.concatenate([np.ravel(np.asarray(x, np.float32)) for x in tree.values()])) for tree in (ours, rough)]
    np.testing.assert_array_equal(*numbers)  # each number once
    wide = {name: np.asarray(x, np.float32) for name, x in rough.items()}
    np.testing.assert_array_equal(params["text/layers/down/kernel"][1], wide["language_model.model.layers.1.mlp.down_proj.weight"].T)
    np.testing.assert_array_equal(params["projector/kernel"], wide["multi_modal_projector.linear.weight"].T)
    for path in params.keys() - ours.keys():
        np.testing.assert_array_equal(params[path], at_random(kind)[path])
    assert (kind == "pi0_fast") == (params.keys() == ours.keys())


def test_names_of_newer_files(tmp_path):
    newer = {f"model.{name.replace('language_model.model.', 'language_model.')}": x for name, x in paligemma().items()}
    save_file(newer | {"lm_head.weight": newer["model.language_model.embed_tokens.weight"]}, tmp_path / "newer.safetensors")
    save_file(paligemma(), tmp_path / "older.safetensors")
    older, newer = (flatten_names(_weights.found(tmp_path / f"{name}.safetensors", template("pi0_fast"))) for name in ("older", "newer"))
    assert older.keys() == newer.keys()
    for path, x in older.items():
        np.testing.assert_array_equal(newer[path], x)


def test_padding_of_the_table_is_named_and_left_out(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(paligemma(TEXT.vocabulary + 64), file)
    with pytest.warns(
        UserWarning, match=r"language_model.model.embed_tokens.weight: rows 300 to 363 are no tokens of this network, but pad"
    ):
        params = flatten_names(_weights.found(file, template("pi0_fast")))
    table = paligemma(TEXT.vocabulary + 64)["language_model.model.embed_tokens.weight"]
    np.testing.assert_array_equal(params["text/embedding"], table[: TEXT.vocabulary])
    save_file(paligemma(TEXT.vocabulary + 65), file)
    with pytest.raises(
        ValueError, match=r"embed_tokens.weight has the shape \(365, 16\), which does not become text/embedding \(300, 16\)"
    ):
        _weights.found(file, template("pi0_fast"))


@pytest.mark.parametrize(("part", "shapes"), [("vision", siglip("vision_model.")), ("text", gemma("", TEXT.vocabulary))])
def test_one_of_both_alone(part, shapes, tmp_path):
    more = {"logit_scale": np.ones(1, np.float32), "text_model.head.bias": np.ones(3, np.float32)} if part == "vision" else {}
    arrays = named.weights(shapes)
    save_file(arrays | more, tmp_path / "model.safetensors")
    params = begun("pi0", tmp_path / "model.safetensors")
    ours = {path: x for path, x in params.items() if path.startswith(f"{part}/")}
    numbers = [np.sort(np.concatenate([np.ravel(x) for x in tree.values()])) for tree in (ours, arrays)]
    np.testing.assert_array_equal(*numbers)
    for path in params.keys() - ours.keys():
        np.testing.assert_array_equal(params[path], at_random("pi0")[path])


def test_what_is_left_or_lacks_is_named_unless_it_may_be(tmp_path):
    file, lacks = tmp_path / "model.safetensors", "multi_modal_projector.linear.bias"
    changed = {name: x for name, x in paligemma().items() if name != lacks}
    save_file(changed | {"language_model.model.layers.0.other.weight": np.zeros(2, np.float32)}, file)
    said = (
        f"{file}: PaliGemma, .* lacks {lacks} and has what this network does not: language_model.model.layers.0.other.weight; take one of"
    )
    with pytest.raises(ValueError, match=said):
        _weights.found(file, template("pi0"))
    with pytest.raises(ValueError, match="fresh: the pattern 'heads' is found in no parameter"):
        _weights.found(file, template("pi0"), ["heads"])
    params = begun("pi0", file, "^projector/bias$", r"\.other\.")
    np.testing.assert_array_equal(params["projector/bias"], at_random("pi0")["projector/bias"])
    np.testing.assert_array_equal(params["projector/kernel"], changed["multi_modal_projector.linear.weight"].T)


def test_what_lies_elsewhere_is_told(tmp_path):
    expected = (
        "expected a checkpoint's folder of openpi, safetensors of PaliGemma, Gemma or SigLIP, or what `jaxrl weights` has written, but"
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    save_file({"conv1.weight": np.zeros(2, np.float32)}, tmp_path / "resnet.safetensors")
    for name, message in {
        "nowhere": f"{expected} nothing lies there",
        "empty": f"{expected} the folder is empty",
        "other": f"{expected} it is a folder with notes.txt",
        "broken.safetensors": "no file of safetensors, or not all of it",
        "resnet.safetensors": f"{expected} names in it begin with conv1.weight",
    }.items():
        with pytest.raises(ValueError, match=f"weights {tmp_path / name}: .*{message}"):
            _weights.found(tmp_path / name, template("pi0"))
    jax.eval_shape(NETWORKS["pi0"](weights=str(tmp_path / "nowhere")).init, KEY)  # shapes need no file


def saved(file, kind: str = "pi0", network: str = "flow", **changes):
    """As `jaxrl weights` writes a run of this network, with arrays changed, or left out where they are None."""
    arrays = {f"params/{network}/{path}": np.array(x) for path, x in at_random(kind).items()} | changes
    arrays["statistics/count"] = np.zeros((), np.int32)
    save_file({name: x for name, x in arrays.items() if x is not None}, file, {"format": own.FORMAT})
    return file


def test_our_own_come_back(tmp_path):
    other = {f"params/tokens/{path}": np.array(x) for path, x in at_random("pi0_fast").items()}
    kernel = "params/flow/action/layers/gate/kernel"
    changed = np.full(at_random("pi0")["action/layers/gate/kernel"].shape, 3, ml_dtypes.bfloat16)
    params = begun("pi0", saved(tmp_path / "own.safetensors", **other, **{kernel: changed}))  # of two networks the one that fits
    for path, x in at_random("pi0").items():
        np.testing.assert_array_equal(params[path], 3.0 if path == "action/layers/gate/kernel" else x)


def test_another_model_or_size_is_told_by_its_differences(tmp_path):
    file = saved(tmp_path / "own.safetensors")
    said = r"its network flow has what this network does not: action/layers/attention_norm/scale \(2, 8\), .* and \d+ more; take one of"
    with pytest.raises(ValueError, match=said):
        _weights.found(file, template("pi0_fast"))
    saved(file, **{"params/flow/action_out_proj/kernel": np.zeros((8, 7), np.float32), "params/flow/state_proj/bias": None})
    said = (
        r"its network flow lacks state_proj/bias \(8,\) and has another size: action_out_proj/kernel \(8, 7\), which is \(8, 6\) here; take"
    )
    with pytest.raises(ValueError, match=said):
        _weights.found(file, template("pi0"))
    params = begun("pi0", file, "^action_out_proj/kernel$", "^state_proj/bias$")
    np.testing.assert_array_equal(params["action_out_proj/kernel"], at_random("pi0")["action_out_proj/kernel"])
