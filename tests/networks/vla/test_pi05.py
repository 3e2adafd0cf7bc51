"""pi0.5 against one pass over all tokens that count; what it writes, what it shares between objectives, and who learns from whom."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algorithms import supervised
from jaxrl.networks.transformer.experts import experts
from jaxrl.networks.transformer.paligemma import paligemma
from jaxrl.networks.vla import pi05
from jaxrl.objectives import flow, tokens
from jaxrl.ops import running_statistics
from jaxrl.ops.padding import masked_mean
from jaxrl.ops.paths import flatten_names
from jaxrl.tokenizers import text
from jaxrl.types import ArraySpec, PolicySpec
from tests.networks.vla.small import (
    ACTION,
    EXACT,
    KEY,
    OBSERVATION,
    OUTPUT,
    SEEING,
    TEXT,
    disturbed,
    linear,
    observation,
    patches,
    square,
    swish,
    waves,
)
from tests.networks.vla.tokenizing import tokenizers_file

NOISY = jax.random.normal(KEY, (2, *OUTPUT))
TIME = jnp.array([0.3, 0.8])
WRITTEN = jax.random.randint(KEY, (2, 5), 0, TEXT.vocabulary)
OF_EXPERT = ("action", "action_in_proj", "time_mlp_in", "time_mlp_out", "action_out_proj")
SPEC = PolicySpec(OBSERVATION, ArraySpec((OUTPUT[1],)), horizon=OUTPUT[0])


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    return tokenizers_file(tmp_path_factory.mktemp("words"), TEXT.vocabulary)


@functools.cache
def network(path: str, insulated: bool = True):
    return pi05.pi05(pi05.Config(SEEING, ACTION, 6, tokenizer=path, longest=8, insulated=insulated), OBSERVATION, OUTPUT)


@functools.cache
def begun(path: str):
    own = network(path)
    return disturbed(own.init), jax.jit(lambda: own.init(KEY)[1])()


@functools.cache
def run(path: str):
    own = network(path)

    def of(params, x):
        condition, after = own.encode(params, begun(path)[1], x)
        return own.denoise(params, NOISY, TIME, condition), own.logits(params, WRITTEN, condition), own.measures(condition), after

    return jax.jit(of)


def test_a_prefix_that_is_read_once_is_one_pass(path):
    """Of the row that lacks a camera: tokens that count alone, all attended to together."""
    own, seen, tokenizer = begun(path)[0], jax.tree.map(lambda x: np.asarray(x[1]), observation()), text.load(path)
    sight = patches(jax.jit(paligemma(SEEING).see), own, [square(seen["image/base"])])[0]
    state = np.concatenate([seen["state/arm"], seen["state/gripper"][0]])
    bins = np.digitize(state, np.linspace(-1, 1, 257)[:-1]) - 1
    told = text.continued(tokenizer, "Task: go", f", State: {' '.join(map(str, bins))};\nAction: ")
    ids = np.concatenate([seen["task/instruction"][:2], told, np.asarray(WRITTEN[1])])
    prefix = np.concatenate([sight, np.asarray(own["text"]["embedding"])[ids] * np.sqrt(TEXT.width)])
    wave = waves(float(TIME[1]), ACTION.width)
    condition = swish(linear(own["time_mlp_out"], swish(linear(own["time_mlp_in"], wave))))
    actions = linear(own["action_in_proj"], NOISY[1])
    w, h, p = len(WRITTEN[1]), OUTPUT[0], len(prefix) - len(WRITTEN[1])
    mask = np.zeros((p + w + h, p + w + h), bool)
    mask[:, :p] = True  # everything sees the prefix; what is written sees what is before it, and actions see each other
    mask[p : p + w, p : p + w] = np.tril(np.ones((w, w), bool))
    mask[p + w :, p + w :] = True
    places = np.concatenate([np.arange(p + w), p + np.arange(h)])
    body = experts({"text": TEXT.size(), "action": replace(ACTION, condition=ACTION.width).size()}, EXACT)
    x = {"text": jnp.asarray(prefix, jnp.float32)[None], "action": jnp.asarray(actions, jnp.float32)[None]}
    given = {"action": jnp.asarray(condition, jnp.float32)[None, None]}
    after = jax.jit(body.apply)(own, x, jnp.asarray(mask)[None], jnp.asarray(places)[None], given)
    velocity, logits, measures, kept = run(path)(begun(path)[0], observation())
    np.testing.assert_allclose(velocity[1], linear(own["action_out_proj"], after["action"][0])[:, : OUTPUT[1]], atol=3e-5)
    np.testing.assert_allclose(
        logits[1], np.asarray(after["text"])[0, p - 1 : p + w - 1] @ np.asarray(own["text"]["embedding"]).T, atol=1e-4
    )
    assert measures == {"state_outside": 0.0}
    jax.tree.map(np.testing.assert_array_equal, kept, begun(path)[1])


def test_what_does_not_count_changes_nothing(path):
    x = observation()
    found = run(path)(begun(path)[0], x)
    other = x | {"image/wrist": x["image/wrist"].at[1].set(0), "task/instruction": x["task/instruction"].at[1, 2:].set(-7)}
    jax.tree.map(np.testing.assert_array_equal, run(path)(begun(path)[0], other), found)
    beyond = run(path)(begun(path)[0], x | {"state/arm": x["state/arm"].at[0].set(3.0)})
    assert (beyond[0][0] != found[0][0]).any() and (beyond[0][1] == found[0][1]).all()
    np.testing.assert_allclose(beyond[2]["state_outside"], 2 / 6)


def test_an_expert_adds_nothing_at_first(path):
    own = network(path)

    def of(key):
        params, statistics = own.init(key)
        condition, _ = own.encode(params, statistics, observation())
        return params, own.denoise(params, NOISY, TIME, condition)

    params, velocity = jax.jit(of)(KEY)
    x = linear(params["action_in_proj"], NOISY)
    plain = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(velocity, linear(params["action_out_proj"], plain)[..., : OUTPUT[1]], atol=1e-5)


def test_it_writes_one_by_one_what_it_learns_at_once(path):
    own, (params, statistics) = network(path), begun(path)

    @jax.jit
    def one_by_one(params):
        condition, _ = own.encode(params, statistics, observation())
        last = jnp.concatenate([WRITTEN[:, -1:], WRITTEN[:, :-1]], 1)

        def step(cache, token):
            logits, cache = own.step(params, token, cache, condition)
            return cache, logits

        return jax.lax.scan(step, own.begin(params, condition), last.T)[1].swapaxes(0, 1)

    np.testing.assert_allclose(one_by_one(params), run(path)(params, observation())[1], atol=2e-5)


def both(own):
    """Flow matching and tokens, of bins that are as many as the language has tokens, with one network."""
    bins = tokens.Config(bins=TEXT.vocabulary)
    return {"flow": flow.flow(flow.Config(), SPEC, own, "flow"), "tokens": tokens.tokens(bins, SPEC, own, "flow")}


def batch():
    action = jax.random.uniform(jax.random.key(1), (2, *OUTPUT), minval=-1.0)
    seen = observation()
    there = {name.removeprefix("present/"): seen.pop(name) for name in list(seen) if name.startswith("present/")}
    return {"observation": seen, "action": action, "present": there}


def test_objectives_share_what_is_read(path):
    calls, own = [], network(path)

    def counted(*arguments, **fields):
        calls.append(1)
        return own.encode(*arguments, **fields)

    table = both(own._replace(encode=counted))
    normaliser = running_statistics.init({"action": SPEC.action})
    learner = supervised.supervised(supervised.Config(), table, {"flow": 2.0, "tokens": 0.5}, normaliser)
    state = jax.eval_shape(learner.init, KEY)
    assert set(state.params) == {"flow"} and set(state.statistics.objectives) == {"flow", "tokens_code"}
    params, statistics = {"flow": begun(path)[0]}, {"flow": begun(path)[1], "tokens_code": {}}
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state)
    state = state._replace(params=params, statistics=supervised.Statistics(normaliser, statistics))
    _, metrics, _ = jax.jit(learner.update)(state, batch(), KEY)
    assert len(calls) == 1
    assert metrics["flow/state_outside"] == 0.0

    @jax.jit
    def apart(params):
        seen = running_statistics.normalise(normaliser, {"action": batch()["action"]}) | {"observation": observation()}

        def total(params):
            parts = 0.0
            for (name, objective), key in zip(table.items(), jax.random.split(KEY, 3)[:2], strict=True):
                elements, mask, _, _ = objective.loss(params, statistics, seen, key)
                parts += {"flow": 2.0, "tokens": 0.5}[name] * masked_mean(elements, mask)
            return parts

        loss, slopes = jax.value_and_grad(total)(params)
        return loss, jnp.sqrt(sum(jnp.square(x).sum() for x in jax.tree.leaves(slopes)))

    loss, norm = apart(params)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-4)


@pytest.mark.parametrize(("insulated", "which"), [(True, "flow"), (True, "tokens"), (False, "flow")])
def test_who_learns_from_whom(path, insulated, which):
    objective = both(network(path, insulated))[which]
    seen = {"observation": observation(), "action": batch()["action"]}
    statistics = {"flow": begun(path)[1], "tokens_code": {}}

    @jax.jit
    @jax.grad
    def slopes(params):
        elements, mask, _, _ = objective.loss({"flow": params}, statistics, seen, KEY)
        return masked_mean(elements, mask)

    found = flatten_names(slopes(begun(path)[0]))
    moved = {name for name, leaf in found.items() if (leaf != 0).any()}
    of_expert = {name for name in found if name.split("/")[0] in OF_EXPERT}
    idle = {"vision/layers/attention/key/bias"}  # which a softmax drops
    if which == "tokens":
        assert moved - idle == set(found) - of_expert - idle
    elif insulated:
        assert moved == of_expert
    else:
        assert moved - idle == set(found) - {"text/norm/scale"} - idle  # nobody who acts looks at the end of the prefix


def test_sizes_are_the_published_ones():
    cameras = {f"image/{name}": ArraySpec((224, 224, 3), "uint8") for name in ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")}
    seen = cameras | {"state/all": ArraySpec((32,)), "task/instruction": ArraySpec((48,), "int32")}
    whole = jax.eval_shape(pi05.pi05(replace(pi05.SIZES["3b"], state="hidden"), seen, (50, 32)).init, KEY)[0]
    modulation = sum(leaf.size for name, leaf in flatten_names(whole).items() if "modulation" in name)
    assert modulation == 37 * (1024 * 3072 + 3072)
    total = sum(leaf.size for leaf in jax.tree.leaves(whole))
    assert abs(total - 3.35e9) < 0.01e9
    # Beside pi0's: no plain norms of the expert, no state_proj, and a time MLP that does not take in the actions.
    assert total == 3_238_048_528 + modulation - 37 * 1024 - (32 * 1024 + 1024) - 1024 * 1024


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"state": "hidden", "tokenizer": "x"}, "tokenizer: has no effect where the state is 'hidden'"),
        ({"tokenizer": "x", "limit": 0.0}, "limit is 0.0, but must be positive"),
        ({"tokenizer": "x", "longest": 0}, "longest is 0"),
    ],
)
def test_impossible_configs_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        pi05.Config(**fields)


def test_a_state_is_not_left_out_by_accident():
    with pytest.raises(ValueError, match="tokenizer: missing; a state is told as text: .*, or have it 'hidden'"):
        pi05.pi05(pi05.SIZES["debug"], OBSERVATION, OUTPUT)


def test_sequences_that_it_does_not_write_are_refused(path):
    with pytest.raises(ValueError, match="tokens has sequences of 6 out of 8 tokens, but the network writes up to 8 out of 300"):
        tokens.tokens(tokens.Config(bins=8), SPEC, network(path))
    with pytest.raises(ValueError, match="a sequence has 9 tokens, but there is room for 8"):
        jax.eval_shape(
            lambda p, x: network(path).logits(p, jnp.zeros((2, 9), int), network(path).encode(p, begun(path)[1], x)[0]),
            begun(path)[0],
            observation(),
        )
