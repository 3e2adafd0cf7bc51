"""Layers of one and of several sets of weights, against numpy and against each other."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks.transformer.experts import Computing, experts
from jaxrl.networks.transformer.layer import Norm, Size
from jaxrl.networks.transformer.masks import block_mask, places, written_mask

KEY = jax.random.key(0)
TEXT = Size(12, 3, 4, 2, 6, 20, "gelu", True, 1e-6, 1e4)
ACTION = replace(TEXT, width=10, mlp=14, condition=5)
EXACT = Computing("float32")
BOTH = experts({"text": TEXT, "action": ACTION}, EXACT)
P, T = 7, 4  # tokens of text and of actions
VALID = jnp.ones((2, P + T), bool).at[1, 2:4].set(False)  # two of the prefix are padding
STARTS = jnp.zeros((2, P + T), bool).at[:, [P, P + 1]].set(True)  # a state, then actions
MASK, PLACES = block_mask(VALID, STARTS), places(VALID)


def draw(name: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(KEY, name), shape)


TOKENS = {"text": draw(1, 2, P, 12), "action": draw(2, 2, T, 10)}
CONDITION = {"action": draw(3, 2, 1, 5)}


@functools.cache
def params():
    """None of which is as it begins, so that norms and gates count."""

    def disturbed(key):
        begun = BOTH.init(key)
        keys = iter(jax.random.split(key, len(jax.tree.leaves(begun))))
        return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), begun)

    return jax.jit(disturbed)(KEY)


@functools.cache
def together():
    return jax.jit(BOTH.apply)(params(), TOKENS, MASK, PLACES, CONDITION)


def by_loops(weights, tokens, mask, where, condition):
    """One row of a batch in numpy: token by token, head by head."""
    sizes, names = {"text": TEXT, "action": ACTION}, ["text", "action"]
    xs = [(name, x.astype(np.float64)) for name in names for x in tokens[name]]

    def norm(name, part, x):
        x = x / np.sqrt((x**2).mean() + 1e-6)
        if name == "text":
            return x * (1 + part["scale"]), 1.0
        scale, shift, gate = np.split(condition @ part["modulation"]["kernel"] + part["modulation"]["bias"], 3)
        return x * (1 + scale) + shift, gate

    def turned(x, place):
        angles = place / 1e4 ** (2 * np.arange(3) / 6)
        first, second = x[:, :3], x[:, 3:]
        return np.concatenate([first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)], 1)

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    for i in range(TEXT.depth):
        layers = {name: jax.tree.map(lambda x, i=i: np.asarray(x[i], np.float64), weights[name]["layers"]) for name in names}
        asked = []
        for (name, x), place in zip(xs, where, strict=True):
            y, gate = norm(name, layers[name]["attention_norm"], x)
            query, key, value = (
                (y @ layers[name][part]["kernel"]).reshape(heads, 6) for part, heads in (("query", 4), ("key", 2), ("value", 2))
            )
            asked.append((turned(query, place), turned(key, place), value, gate))
        after = []
        for t, (name, x) in enumerate(xs):
            mixed = []
            for head in range(4):
                logits = np.array([asked[t][0][head] @ other[1][head // 2] / np.sqrt(6) for other in asked])
                chances = np.where(mask[t], np.exp(logits - logits.max()), 0)
                mixed.append(chances / max(chances.sum(), 1e-9) @ np.array([other[2][head // 2] for other in asked]))
            part = layers[name]
            x = x + asked[t][3] * (np.concatenate(mixed) @ part["output"]["kernel"])
            y, gate = norm(name, part["mlp_norm"], x)
            y = (gelu(y @ part["gate"]["kernel"]) * (y @ part["up"]["kernel"])) @ part["down"]["kernel"]
            after.append((name, x + gate * y))
        xs = after
    last = {name: jax.tree.map(lambda x: np.asarray(x, np.float64), weights[name]["norm"]) for name in names}
    return {name: np.array([norm(name, last[name], x)[0] for own, x in xs if own == name]) for name in sizes}


def test_two_sets_against_loops():
    row = jax.tree.map(lambda x: np.asarray(x[1]), (TOKENS, MASK, PLACES, CONDITION["action"][:, 0]))
    valid = np.asarray(VALID[1, :P])
    theirs = by_loops(params(), *row)
    np.testing.assert_allclose(together()["text"][1][valid], theirs["text"][valid], atol=2e-5)
    np.testing.assert_allclose(together()["action"][1], theirs["action"], atol=2e-5)


def test_the_first_is_as_if_alone_where_it_does_not_see_the_second():
    alone = experts({"text": TEXT}, EXACT)
    ours = jax.jit(alone.apply)({"text": params()["text"]}, {"text": TOKENS["text"]}, MASK[:, :P, :P], PLACES[:, :P])
    counted = np.asarray(VALID[:, :P])
    np.testing.assert_allclose(ours["text"][counted], together()["text"][counted], atol=1e-5)
    absent = jax.jit(BOTH.apply)(params(), {"text": TOKENS["text"]}, MASK[:, :P, :P], PLACES[:, :P])
    np.testing.assert_array_equal(absent["text"], ours["text"])


def test_who_is_insulated_learns_nothing_from_others():
    shut = experts({"text": TEXT, "action": ACTION}, EXACT, insulated=["text"])

    def loss(params, tokens):
        after = shut.apply(params, tokens, MASK, PLACES, CONDITION)
        return (after["action"] ** 2 * draw(8, 2, T, 10)).sum(), after

    slopes, after = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params(), TOKENS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after, together())
    for part in slopes:
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(part["text"]))
        assert all((leaf != 0).any() for leaf in jax.tree.leaves(part["action"]))


def test_padding_changes_nothing():
    other = TOKENS | {"text": TOKENS["text"].at[1, 2:4].set(9.0)}
    after = jax.jit(BOTH.apply)(params(), other, MASK, PLACES, CONDITION)
    np.testing.assert_array_equal(after["action"], together()["action"])
    assert np.isfinite(after["text"]).all()


@functools.cache
def slopes(computing):
    network = experts({"text": TEXT, "action": ACTION}, computing)

    def loss(params):
        after = network.apply(params, TOKENS, MASK, PLACES, CONDITION)
        return sum((x**2 * draw(9, *x.shape)).mean() for x in after.values())

    return jax.jit(jax.value_and_grad(loss))(params())


@pytest.mark.parametrize("computing", [Computing("float32", "dots", unroll=3), Computing("float32", "full")])
def test_how_it_is_computed_changes_nothing(computing):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), slopes(EXACT), slopes(computing))


def test_a_suffix_sees_a_prefix_that_was_encoded_once():
    @jax.jit
    def in_two(params):
        prefix = {"text": TOKENS["text"]}
        first, cache = BOTH.extend(params, prefix, MASK[:, :P, :P], PLACES[:, :P], BOTH.blank(2, P), 0)
        suffix = {"action": TOKENS["action"]}
        return first | BOTH.apply(params, suffix, MASK[:, P:], PLACES[:, P:], CONDITION, cache)

    ours, counted = in_two(params()), np.asarray(VALID[:, :P])
    np.testing.assert_allclose(ours["action"], together()["action"], atol=1e-5)
    np.testing.assert_allclose(ours["text"][counted], together()["text"][counted], atol=1e-5)


def test_tokens_one_after_the_other_are_those_of_the_whole():
    """Each step writes one slot, in a cache that has room for more."""
    network, length, slots = experts({"text": TEXT}, EXACT), P, P + 2
    own, x, valid = {"text": params()["text"]}, TOKENS["text"], VALID[:, :P]
    whole = jax.jit(network.apply)(own, {"text": x}, block_mask(valid, jnp.ones_like(valid)), places(valid))["text"]

    @jax.jit
    def one_by_one(own):
        room = jnp.concatenate([valid, jnp.ones((2, slots - length), bool)], 1)

        def step(cache, place):
            now = jax.lax.dynamic_slice_in_dim(x, place, 1, 1), jax.lax.dynamic_slice_in_dim(places(room), place, 1, 1)
            after, cache = network.extend(own, {"text": now[0]}, written_mask(room, place), now[1], cache, place)
            return cache, after["text"][:, 0]

        return jnp.moveaxis(jax.lax.scan(step, network.blank(2, slots), jnp.arange(length))[1], 0, 1)

    counted = np.asarray(valid)
    np.testing.assert_allclose(one_by_one(own)[counted], whole[counted], atol=1e-5)


def test_a_cache_is_written_where_it_is():
    network = experts({"text": TEXT}, EXACT)
    own, cache = jax.eval_shape(network.init, KEY), jax.eval_shape(lambda: network.blank(2, 4096))
    token = {"text": jnp.zeros((2, 1, 12))}

    def step(own, cache, place):
        return network.extend(own, token, jnp.ones((2, 1, 4096), bool), jnp.full((2, 1), place), cache, place)

    memory = jax.jit(step, donate_argnums=1).lower(own, cache, jax.ShapeDtypeStruct((), jnp.int32)).compile().memory_analysis()
    held = 4 * (cache.keys.size + cache.values.size)
    assert memory.alias_size_in_bytes >= held and memory.temp_size_in_bytes < 0.7 * held  # one layer of three, and what attention needs


def test_a_condition_begins_as_one_that_does_nothing():
    """Its gates are 0, so layers hand on what they are given; a condition may differ from token to token."""
    network = experts({"action": ACTION}, EXACT)
    x, mask, where = TOKENS["action"], MASK[:, P:, P:], PLACES[:, P:]
    begun = jax.jit(network.init)(KEY)
    after = jax.jit(network.apply)(begun, {"action": x}, mask, where, CONDITION)["action"]
    np.testing.assert_allclose(after, x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6), atol=1e-5)
    own = {"action": params()["action"]}
    each = jnp.broadcast_to(CONDITION["action"], (2, T, 5))
    run = jax.jit(lambda each: network.apply(own, {"action": x}, jnp.eye(T, dtype=bool)[None] & mask, where, {"action": each})["action"])
    other = run(each.at[:, 0].add(1.0))
    np.testing.assert_array_equal(other[:, 1:], run(each)[:, 1:])
    assert (other[:, 0] != run(each)[:, 0]).any()


def test_norms_are_those_of_float32():
    x = (1000 + draw(4, 2, 3, 12)).astype(jnp.bfloat16)
    for size, begun in ((TEXT, 0.0), (replace(TEXT, centred=False), 1.0)):
        own = Norm(size).init(KEY, x)
        assert (own["params"]["scale"] == begun).all()
        y, gate = Norm(size).apply(own, x)
        wide = np.asarray(x, np.float64)
        assert gate is None and y.dtype == jnp.bfloat16
        np.testing.assert_allclose(y.astype(np.float32), wide / np.sqrt((wide**2).mean(-1, keepdims=True)), rtol=2**-8)


def call(tokens=TOKENS, mask=MASK, where=PLACES, conditions=CONDITION):
    jax.eval_shape(lambda: BOTH.apply(params(), tokens, mask, where, conditions))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: experts({}, EXACT), "at least one set of weights"),
        (
            lambda: experts({"a": TEXT, "b": replace(TEXT, heads=2)}, EXACT),
            "heads: attention .* same number in each set, not 4 of a and 2 of b",
        ),
        (lambda: experts({"a": TEXT}, EXACT, ["b"]), "insulated: there is no set 'b'; there are a"),
        (lambda: call(tokens={"txt": TOKENS["text"]}), "tokens are of txt, but the sets of weights are text, action"),
        (lambda: call(tokens={}), "tokens are of no set"),
        (lambda: call(tokens=TOKENS | {"text": TOKENS["action"]}), r"tokens of text have the shape \(2, 4, 10\), but must be \[B, T, 12\]"),
        (lambda: call(conditions=None), "action takes a condition of 5 numbers, but was given none"),
        (lambda: call(conditions=CONDITION | {"text": CONDITION["action"]}), "text takes no condition, but was given one"),
        (lambda: call(conditions={"action": draw(3, 2, 5)}), r"the condition of action has the shape \(2, 5\), but must be \[B, 1 or 4"),
        (lambda: call(mask=MASK[:, :, :P]), r"mask has the shape \(2, 11, 7\), but 11 tokens and 11 keys need \(2, 11, 11\)"),
        (lambda: call(where=PLACES[:, :P]), r"places have the shape \(2, 7\), but 11 tokens need \(2, 11\)"),
        (
            lambda: BOTH.extend(params(), {"text": TOKENS["text"]}, MASK, PLACES, BOTH.blank(2, 9), 3),
            "7 tokens at place 3 do not fit into the 9 slots of the cache",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_read_first_teaches_as_in_one_pass():
    target = draw(9, 2, T, 10)

    @jax.jit
    @jax.value_and_grad
    def in_two(params):
        _, cache = BOTH.read(params, {"text": TOKENS["text"]}, MASK[:, :P, :P], PLACES[:, :P])
        assert cache.keys.shape == (3, 2, P, 2, 6)
        after = BOTH.apply(params, {"action": TOKENS["action"]}, MASK[:, P:], PLACES[:, P:], CONDITION, cache)
        return (after["action"] * target).sum()

    @jax.jit
    @jax.value_and_grad
    def at_once(params):
        return (BOTH.apply(params, TOKENS, MASK, PLACES, CONDITION)["action"] * target).sum()

    (ours, slopes), (theirs, expected) = in_two(params()), at_once(params())
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), slopes, expected)
