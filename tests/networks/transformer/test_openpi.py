"""Parameters as openpi names and lays them out: what is made of them computes what theirs would."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks.transformer import gemma, openpi, paligemma
from jaxrl.networks.transformer.experts import Computing, experts
from jaxrl.networks.vision import vit
from tests.golden import named

KEY = jax.random.key(0)
EXACT = Computing("float32")
LAYERS, N, K, H, WIDTH, MLP = 3, 4, 2, 6, 12, 20  # of text; heads, keys, head_dim
LLM, IMG = "PaliGemma/llm/", "PaliGemma/img/"


def shapes(condition: int) -> dict[str, tuple[int, ...]]:
    """Of a small pi0, or of a pi0.5 with a condition."""
    found = {f"{LLM}embedder/input_embedding": (30, WIDTH)}
    for mark, width, mlp in (("", WIDTH, MLP), ("_1", 8, 10)):
        found |= {
            f"{LLM}layers/attn/q_einsum{mark}/w": (LAYERS, N, width, H),
            f"{LLM}layers/attn/kv_einsum{mark}/w": (LAYERS, 2, K, width, H),
            f"{LLM}layers/attn/attn_vec_einsum{mark}/w": (LAYERS, N, H, width),
            f"{LLM}layers/mlp{mark}/gating_einsum": (LAYERS, 2, width, mlp),
            f"{LLM}layers/mlp{mark}/linear": (LAYERS, mlp, width),
        }
        for norm, layers in (("layers/pre_attention_norm", (LAYERS,)), ("layers/pre_ffw_norm", (LAYERS,)), ("final_norm", ())):
            if mark and condition:
                found[f"{LLM}{norm}{mark}/Dense_0/kernel"] = (*layers, condition, 3 * width)
                found[f"{LLM}{norm}{mark}/Dense_0/bias"] = (*layers, 3 * width)
            else:
                found[f"{LLM}{norm}{mark}/scale"] = (*layers, width)
    block, heads = f"{IMG}Transformer/encoderblock/", f"{IMG}Transformer/encoderblock/MultiHeadDotProductAttention_0/"
    found |= {f"{IMG}embedding/kernel": (8, 8, 3, 16), f"{IMG}embedding/bias": (16,), f"{IMG}pos_embedding": (1, 4, 16)}
    for part in ("query", "key", "value"):
        found |= {f"{heads}{part}/kernel": (2, 16, 2, 8), f"{heads}{part}/bias": (2, 2, 8)}
    found |= {f"{heads}out/kernel": (2, 2, 8, 16), f"{heads}out/bias": (2, 16)}
    for i, (inputs, outputs) in enumerate(((16, 32), (32, 16))):
        found |= {f"{block}LayerNorm_{i}/{part}": (2, 16) for part in ("scale", "bias")}
        found |= {f"{block}MlpBlock_0/Dense_{i}/kernel": (2, inputs, outputs), f"{block}MlpBlock_0/Dense_{i}/bias": (2, outputs)}
    found |= {f"{IMG}Transformer/encoder_norm/{part}": (16,) for part in ("scale", "bias")}
    return found | {
        f"{IMG}head/kernel": (16, WIDTH),
        f"{IMG}head/bias": (WIDTH,),
        "action_in_proj/kernel": (5, 8),
        "action_in_proj/bias": (8,),
    }


def template(condition: int):
    text = gemma.Config(WIDTH, LAYERS, N, K, H, MLP, 30, computing=EXACT)
    seeing = paligemma.paligemma(paligemma.Config(vit.Config("siglip", 16, 8, 16, 2, 2, 32), text))
    action = experts({"action": gemma.Config(8, LAYERS, N, K, H, 10, 0, condition).size()}, EXACT)
    head = {"action_in_proj": {"kernel": jax.ShapeDtypeStruct((5, 8), jnp.float32), "bias": jax.ShapeDtypeStruct((8,), jnp.float32)}}
    return seeing, jax.eval_shape(lambda: seeing.init(KEY) | action.init(KEY)) | head


@pytest.mark.parametrize("condition", [0, 8])
def test_products_are_theirs(condition):
    arrays = named.weights(shapes(condition))
    params = openpi.placed(arrays, template(condition)[1])
    for name, mark, width in (("text", "", WIDTH), ("action", "_1", 8)):
        x, mixed = named.draws("x", (7, width)), named.draws("mixed", (7, N, H))
        ours = jax.tree.map(lambda x: x[1], params[name]["layers"])
        of = lambda what: arrays[f"{LLM}layers/{what}"][1]  # noqa: E731
        kv = np.einsum("td,ckdh->ctkh", x, of(f"attn/kv_einsum{mark}/w"))
        gating = np.einsum("td,cdm->ctm", x, of(f"mlp{mark}/gating_einsum"))
        pairs = [
            ((x @ ours["query"]["kernel"]).reshape(7, N, H), np.einsum("td,ndh->tnh", x, of(f"attn/q_einsum{mark}/w"))),
            ((x @ ours["key"]["kernel"]).reshape(7, K, H), kv[0]),
            ((x @ ours["value"]["kernel"]).reshape(7, K, H), kv[1]),
            (mixed.reshape(7, -1) @ ours["output"]["kernel"], np.einsum("tnh,nhd->td", mixed, of(f"attn/attn_vec_einsum{mark}/w"))),
            (x @ ours["gate"]["kernel"], gating[0]),
            (x @ ours["up"]["kernel"], gating[1]),
        ]
        for a, b in pairs:
            np.testing.assert_allclose(a, b, atol=1e-5)
    if condition:
        np.testing.assert_array_equal(params["action"]["norm"]["modulation"]["bias"], arrays[f"{LLM}final_norm_1/Dense_0/bias"])
    np.testing.assert_array_equal(params["action_in_proj"]["kernel"], arrays["action_in_proj/kernel"])


def test_patches_are_those_of_a_convolution():
    seeing, shape = template(0)
    arrays = named.weights(shapes(0))
    vision = openpi.placed(arrays, shape)["vision"]
    pictures = jnp.asarray(named.draws("pictures", (2, 16, 16, 3)))
    with_window = jax.lax.conv_general_dilated(
        pictures, arrays[f"{IMG}embedding/kernel"], (8, 8), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    ours = pictures.reshape(2, 2, 8, 2, 8, 3).swapaxes(2, 3).reshape(2, 2, 2, -1) @ vision["patches"]["kernel"]  # as `vit` cuts them
    np.testing.assert_allclose(ours, with_window, atol=1e-4)
    seen = jax.eval_shape(seeing.see, openpi.placed(arrays, shape), pictures)
    assert seen.shape == (2, 4, WIDTH)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{LLM}final_norm/scale": None}, "parameters of openpi lack PaliGemma/llm/final_norm/scale"),
        ({"state_proj/bias": np.zeros(8)}, "have what this network does not: state_proj/bias"),
        ({"action_in_proj/kernel": np.zeros((8, 5))}, r"action_in_proj/kernel of openpi has the shape \(8, 5\), which does not become"),
        ({f"{LLM}embedder/input_embedding": np.zeros((31, WIDTH))}, r"input_embedding of openpi has the shape \(31, 12\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arrays = {name: array for name, array in (named.weights(shapes(0)) | change).items() if array is not None}
    with pytest.raises(ValueError, match=message):
        openpi.placed(arrays, template(0)[1])
