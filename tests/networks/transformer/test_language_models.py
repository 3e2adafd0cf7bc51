"""Gemma, Llama and PaliGemma against transformers: what it made of small ones is in tests/golden/language_models.npz."""

import functools
import math
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.flax import save_file

from jaxrl.networks import _pretrained as pretrained
from jaxrl.networks.transformer import gemma, llama, paligemma
from jaxrl.networks.transformer.experts import Computing, experts
from jaxrl.networks.transformer.interface import Cache
from jaxrl.networks.transformer.masks import block_mask, places, written_mask
from jaxrl.networks.vision import vit
from jaxrl.ops.paths import flatten_names, map_with_path
from tests.golden import named

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "language_models.npz")
KEY = jax.random.key(0)
EXACT = Computing("float32")
GEMMA = gemma.Config(24, 3, 4, 1, 8, 40, 50, computing=EXACT)
MODELS = {
    "gemma": gemma.gemma(GEMMA),
    "llama": llama.llama(llama.Config(24, 3, 4, 2, 8, 40, 50, longest=1e5, computing=EXACT)),
    "paligemma": paligemma.paligemma(paligemma.Config(vit.Config("siglip", 16, 8, 16, 2, 2, 32), GEMMA)),
}


@functools.cache
def shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {line.split(" ")[0]: tuple(int(n) for n in line.split(" ")[1:]) for line in GOLDEN[f"{name}/state"]}


def filled(name: str):
    theirs = named.weights(shapes(name), f"{name}/")
    theirs = theirs if name == "llama" else named.centred(theirs)
    template = jax.eval_shape(MODELS[name].init, KEY), {}
    return pretrained.placed(template, pretrained.NAMINGS[name], list(theirs), theirs.__getitem__, name)[0]


def told(name: str, gradient) -> np.ndarray:
    """Slopes by the names and in the layout of torch."""
    naming, found = pretrained.NAMINGS[name], {}
    for path, slope in flatten_names(gradient).items():
        theirs, slope = naming.theirs(path), np.asarray(slope)
        for i, one in enumerate(slope) if "*" in theirs else [(0, slope)]:
            own = theirs.replace("*", str(i))
            one = one.reshape(8, 8, 3, -1).transpose(3, 2, 0, 1) if len(shapes(name)[own]) == 4 else one
            found[own] = (one.T if path.endswith("kernel") and one.ndim == 2 else one).reshape(shapes(name)[own])
    assert sorted(found) == list(GOLDEN[f"{name}/names"])
    return named.told(found)


def compare(name: str, params, logits):
    """`logits(params)`, its slopes, and where they are to be found."""
    theirs = GOLDEN[f"{name}/logits"]
    counted = lambda params: logits(params) * GOLDEN[f"{name}/valid"][..., None]  # noqa: E731
    ours, pull = jax.jit(lambda params: jax.vjp(counted, params))(params)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    slopes = pull(jnp.asarray(named.draws(f"{name} factors", theirs.shape)))[0]
    np.testing.assert_allclose(told(name, slopes), GOLDEN[f"{name}/slopes"], rtol=1e-5, atol=1e-4)


def test_a_folder_of_files(tmp_path):
    model, theirs = MODELS["llama"], named.weights(shapes("llama"), "llama/")
    halves = [dict(list(theirs.items())[i::2]) for i in range(2)]
    for i, half in enumerate(halves):
        save_file({name: jnp.asarray(x, jnp.bfloat16) for name, x in half.items()}, tmp_path / f"model-{i}.safetensors")
    template = jax.eval_shape(model.init, KEY), {}
    params, _ = pretrained.load(tmp_path, template, pretrained.NAMINGS["llama"])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, np.asarray(b.astype(jnp.bfloat16), np.float32)), params, filled("llama"))
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(ValueError, match="read with the prefix '', lacks "):
        pretrained.load(tmp_path, template, pretrained.NAMINGS["llama"])


@pytest.mark.parametrize("name", ["gemma", "llama"])
def test_text(name):
    model, params = MODELS[name], filled(name)
    ids, valid = jnp.asarray(GOLDEN[f"{name}/ids"]), jnp.asarray(GOLDEN[f"{name}/valid"])

    def logits(params):
        x = model.embed(params, ids)
        return model.logits(params, model.apply(params, x, block_mask(valid, jnp.ones_like(valid)), places(valid)))

    compare(name, params, logits)


def write(model, params, ids, valid, length: int):
    """The likeliest tokens behind `ids` [B, T], one after the other out of a cache, and what was said of each."""
    batch, start = ids.shape
    room = jnp.concatenate([valid.astype(bool), jnp.ones((batch, length - 1), bool)], 1)
    where = places(room)
    x, cache = model.extend(
        params, model.embed(params, ids), written_mask(room, 0, start), where[:, :start], model.blank(batch, room.shape[1]), 0
    )

    def step(carry, place):
        said, cache = carry
        token = jnp.argmax(said, -1)
        now = jax.lax.dynamic_slice_in_dim(where, place, 1, 1)
        x, cache = model.extend(params, model.embed(params, token[:, None]), written_mask(room, place), now, cache, place)
        return (model.logits(params, x[:, 0]), cache), (token, said)

    last = model.logits(params, x[:, -1]), cache
    (said, _), (tokens, before) = jax.lax.scan(step, last, start + jnp.arange(length - 1))
    tokens = jnp.concatenate([tokens, jnp.argmax(said, -1)[None]])
    return tokens.T, jnp.moveaxis(jnp.concatenate([before, said[None]]), 0, 1)


@pytest.mark.parametrize("name", ["gemma", "llama"])
def test_text_is_written_from_a_cache(name):
    ids, valid = jnp.asarray(GOLDEN[f"{name}/ids"]), jnp.asarray(GOLDEN[f"{name}/valid"])
    tokens, said = jax.jit(functools.partial(write, MODELS[name], length=6))(filled(name), ids, valid)
    np.testing.assert_array_equal(tokens, GOLDEN[f"{name}/written"])
    np.testing.assert_allclose(said, GOLDEN[f"{name}/said"], atol=1e-5)


def test_pictures_in_front_of_text():
    model, params = MODELS["paligemma"], filled("paligemma")
    ids, valid = jnp.asarray(GOLDEN["paligemma/ids"]), jnp.asarray(GOLDEN["paligemma/valid"])
    pictures = jnp.asarray(named.draws("paligemma pictures", (2, 3, 16, 16)).transpose(0, 2, 3, 1))
    mask = block_mask(valid, jnp.asarray(GOLDEN["paligemma/kinds"]))

    def logits(params):
        text = params["text"]
        x = jnp.concatenate([model.see(params, pictures), model.text.embed(text, ids[:, 4:])], 1)
        return model.text.logits(text, model.text.apply(text, x, mask, places(valid)))

    compare("paligemma", params, logits)


def count(init) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(jax.eval_shape(init, KEY)))


def test_sizes_are_those_published():
    published = dict(zip(GOLDEN["published"], GOLDEN["counts"].tolist(), strict=True))  # as transformers counts them
    expert = experts({"": gemma.SIZES["300m"].size()}, EXACT)
    ours = {
        "gemma_2b": count(gemma.gemma(replace(gemma.SIZES["2b"], vocabulary=256_000)).init),
        "gemma_300m": count(expert.init) + 1024,  # theirs has a token
        "llama2_7b": count(llama.llama(llama.SIZES["llama2_7b"]).init),
        "smollm2_360m": count(llama.llama(llama.SIZES["smollm2_360m"]).init),
        "paligemma_3b_224": count(paligemma.paligemma(paligemma.SIZES["3b_224"]).init) + 64 * 2048,  # that fill their table up
    }
    assert ours == published
    assert count(experts({"": gemma.SIZES["2b"].size()}, EXACT).init) == 1_981_884_416  # Gemma Team 2024, table 2
    assert count(experts({"": replace(gemma.SIZES["300m"].size(), condition=1024)}, EXACT).init) - count(expert.init) == 37 * (
        1024 * 3072 + 3072 - 1024
    )  # pi0.5: a linear layer in place of each scale


def test_slopes_in_bfloat16_are_finite():
    config = paligemma.SIZES["debug"]
    model = paligemma.paligemma(replace(config, text=replace(config.text, computing=Computing(remat="full"))))
    drawn = named.weights({path: leaf.shape for path, leaf in flatten_names(jax.eval_shape(model.init, KEY)).items()})
    params = map_with_path(lambda path, _: jnp.asarray(drawn[path]), jax.eval_shape(model.init, KEY))
    pictures, ids = jnp.asarray(named.draws("pictures", (2, 32, 32, 3))), jnp.arange(10).reshape(2, 5)
    valid = jnp.ones((2, 21), bool).at[1, -2:].set(False).at[0, :16].set(False)  # a picture that is not there
    mask = block_mask(valid, jnp.zeros_like(valid))

    def loss(params):
        x = jnp.concatenate([model.see(params, pictures), model.text.embed(params["text"], ids)], 1)
        seen = model.text.apply(params["text"], x, mask, places(valid))
        logits = model.text.logits(params["text"], seen)
        assert (x.dtype, seen.dtype, logits.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
        return (jax.nn.log_softmax(logits) * valid[..., None]).mean()

    for path, slope in flatten_names(jax.jit(jax.grad(loss))(params)).items():
        assert slope.dtype == jnp.float32 and jnp.isfinite(slope).all() and (slope != 0).any(), path


def test_a_cache_has_the_type_that_is_computed_in():
    model = gemma.gemma(replace(GEMMA, computing=Computing()))
    cache = jax.eval_shape(lambda: model.blank(2, 5))
    assert cache == Cache(*[jax.ShapeDtypeStruct((3, 2, 5, 1, 8), jnp.bfloat16)] * 2)


def test_a_token_that_there_is_not_is_no_number():
    rows = MODELS["gemma"].embed(filled("gemma"), jnp.array([[49, 50]]))
    assert np.isfinite(rows[0, 0]).all() and np.isnan(rows[0, 1]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gemma.gemma(gemma.SIZES["300m"]),
            "vocabulary is 0, but must be at least 1; a set of weights without one is for `experts`",
        ),
        (lambda: gemma.gemma(gemma.Config(condition=4)), "condition is 4, but a model of text is given none"),
        (lambda: gemma.Config(heads=3, kv_heads=2), "heads is 3, but must be a multiple of kv_heads, 2"),
        (lambda: gemma.Config(head_dim=7), "head_dim is 7, but must be even"),
        (lambda: gemma.Config(vocabulary=-1), "vocabulary is -1"),
        (lambda: llama.Config(depth=0), "depth is 0, but must be at least 1"),
        (lambda: llama.Config(vocabulary=0), "vocabulary is 0"),
        (lambda: Computing(unroll=0), "unroll is 0"),
        (lambda: paligemma.Config(vision=vit.SIZES["clip_b16"]), "vision is of the family 'clip', but PaliGemma sees with siglip"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
