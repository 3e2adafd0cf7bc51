"""pi0 against one pass over all tokens, without those that do not count; its sampler, its gradients, and what it refuses."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks.transformer.experts import experts
from jaxrl.networks.transformer.paligemma import paligemma
from jaxrl.networks.vla import _prefix, pi0
from jaxrl.objectives import flow
from jaxrl.ops.paths import flatten_names
from jaxrl.types import ArraySpec, PolicySpec
from tests.networks.vla.small import (
    ACTION,
    EXACT,
    KEY,
    OBSERVATION,
    OUTPUT,
    SEEING,
    TEXT,
    bfloat16,
    disturbed,
    linear,
    observation,
    patches,
    square,
    swish,
    waves,
)

CONFIG = pi0.Config(SEEING, ACTION, action_dim=6)
NETWORK = pi0.pi0(CONFIG, OBSERVATION, OUTPUT)
NOISY = jax.random.normal(KEY, (2, *OUTPUT))
TIME = jnp.array([0.3, 0.8])
EXPERTS = ("action", "state_proj", "action_in_proj", "action_time_mlp_in", "action_time_mlp_out", "action_out_proj")


@functools.cache
def params():
    return disturbed(NETWORK.init)


@functools.cache
def run():
    def of(params, x, noisy, time):
        condition, statistics = NETWORK.encode(params, {}, x)
        assert statistics == {}
        return NETWORK.denoise(params, noisy, time, condition)

    return jax.jit(of)


@functools.cache
def found():
    return run()(params(), observation(), NOISY, TIME)


def in_one_pass(row, cameras, prompt):
    """Of tokens that count alone, all attended to together; what stands between numbers and tokens in numpy."""
    own, seen = params(), jax.tree.map(lambda x: np.asarray(x[row]), observation())
    seeing = paligemma(SEEING)
    pictures = {"base": square(seen["image/base"]), "wrist": seen["image/wrist"]}
    sight = patches(jax.jit(seeing.see), own, [pictures[name] for name in cameras]).reshape(-1, TEXT.width)
    words = np.asarray(own["text"]["embedding"])[seen["task/instruction"][:prompt]] * np.sqrt(TEXT.width)
    text = np.concatenate([sight, words])
    state = linear(own["state_proj"], np.concatenate([seen["state/arm"], seen["state/gripper"][0]]))
    both = np.concatenate([linear(own["action_in_proj"], NOISY[row]), np.tile(waves(float(TIME[row]), ACTION.width), (3, 1))], 1)
    actions = linear(own["action_time_mlp_out"], swish(linear(own["action_time_mlp_in"], both)))
    suffix, (p, s) = np.concatenate([state[None], actions]), (len(text), 4)
    mask = np.ones((p + s, p + s), bool)
    mask[:p, p:] = mask[p, p + 1 :] = False  # a prefix sees itself, the state that too, and the actions everything
    body = experts({"text": TEXT.size(), "action": ACTION.size()}, EXACT)
    tokens = {"text": jnp.asarray(text, jnp.float32)[None], "action": jnp.asarray(suffix, jnp.float32)[None]}
    after = jax.jit(body.apply)(own, tokens, jnp.asarray(mask)[None], jnp.arange(p + s)[None])["action"][0, 1:]
    return linear(own["action_out_proj"], after)[:, : OUTPUT[1]]


def test_a_prefix_that_is_read_once_is_one_pass():
    np.testing.assert_allclose(found()[0], in_one_pass(0, ["base", "wrist"], 4), atol=2e-5)
    np.testing.assert_allclose(found()[1], in_one_pass(1, ["base"], 2), atol=2e-5)


def test_what_does_not_count_changes_nothing():
    x = observation()
    other = x | {"image/wrist": x["image/wrist"].at[1].set(0), "task/instruction": x["task/instruction"].at[1, 2:].set(-7)}
    np.testing.assert_array_equal(run()(params(), other, NOISY, TIME), found())
    there = run()(params(), x | {"present/image/wrist": jnp.ones(2)}, NOISY, TIME)
    assert (there[0] == found()[0]).all() and (there[1] != found()[1]).all()


def test_bfloat16_is_about_the_same():
    rough = pi0.pi0(bfloat16(CONFIG), OBSERVATION, OUTPUT)

    @jax.jit
    def of(params):
        condition, _ = rough.encode(params, {}, observation())
        assert condition.cache.keys.dtype == jnp.bfloat16
        return rough.denoise(params, NOISY, TIME, condition)

    output = of(params())
    assert output.dtype == jnp.float32
    np.testing.assert_allclose(output, found(), atol=0.05)


def test_ten_steps_are_an_explicit_loop():
    spec = PolicySpec(OBSERVATION, ArraySpec((OUTPUT[1],)), horizon=OUTPUT[0])
    objective = flow.flow(flow.Config(), spec, NETWORK)
    keys = jax.random.split(KEY, 2)
    ours = jax.jit(objective.sample)({"flow": params()}, {"flow": {}}, observation(), keys)
    chunk = np.stack([np.asarray(jax.random.normal(key, OUTPUT)) for key in keys])
    for i in range(10):
        time = np.float32(1 - i / 10)
        chunk = chunk - 0.1 * np.asarray(run()(params(), observation(), jnp.asarray(chunk), jnp.full(2, time)))
    np.testing.assert_allclose(ours, chunk, atol=1e-5)


@pytest.mark.parametrize("insulated", [False, True])
def test_who_learns_from_actions(insulated):
    network = pi0.pi0(replace(CONFIG, insulated=insulated), OBSERVATION, OUTPUT)

    def loss(params):
        condition, _ = network.encode(params, {}, observation(), KEY, train=True)
        velocity = network.denoise(params, NOISY, TIME, condition, KEY, train=True)
        return jnp.square(velocity - 1.0).sum(), velocity

    slopes, velocity = jax.jit(jax.grad(loss, has_aux=True))(params())
    np.testing.assert_allclose(velocity, found(), atol=1e-5)
    moved = {path for path, leaf in flatten_names(slopes).items() if (leaf != 0).any()}
    of_expert = {path for path in flatten_names(slopes) if path.split("/")[0] in EXPERTS}
    idle = {"text/norm/scale", "vision/layers/attention/key/bias"}  # nobody looks at the end of the prefix; a softmax drops the bias
    assert moved - idle == (of_expert if insulated else set(flatten_names(slopes)) - idle)


def test_pictures_fit_in_without_being_stretched():
    picture = np.random.default_rng(0).uniform(-1, 1, (6, 8, 3)).astype(np.float32)
    boxed = np.asarray(_prefix.letterboxed(jnp.asarray(picture)[None], 16))[0]
    assert (boxed[:2] == -1).all() and (boxed[14:] == -1).all()
    at = (np.arange(16) + 0.5) / 2 - 0.5
    wide = np.apply_along_axis(lambda row: np.interp(at, np.arange(8), row), 1, picture)
    whole = np.apply_along_axis(lambda column: np.interp(at[:12], np.arange(6), column), 0, wide)
    np.testing.assert_allclose(boxed[2:14], whole, atol=1e-5)
    tall = np.asarray(_prefix.letterboxed(jnp.ones((1, 31, 8, 3)), 16))[0]
    assert (tall[:, :6] == -1).all() and (tall[:, 6:10] > 0.99).all() and (tall[:, 10:] == -1).all()


def test_sizes_are_the_published_ones():
    cameras = {f"image/{name}": ArraySpec((224, 224, 3), "uint8") for name in ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")}
    seen = cameras | {"state/all": ArraySpec((32,)), "task/instruction": ArraySpec((48,), "int32")}
    whole = jax.eval_shape(pi0.pi0(pi0.SIZES["3b"], seen, (50, 32)).init, KEY)[0]
    numbers = {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in whole.items()}
    assert numbers["text"] == 2_508_531_712 and numbers["action"] == 311_464_960
    assert numbers["vision"] + numbers["projector"] == 414_803_696
    assert sum(n for name, n in numbers.items() if "proj" in name or "mlp" in name) - numbers["projector"] == 3_248_160
    assert sum(numbers.values()) == 3_238_048_528
    small = jax.eval_shape(pi0.pi0(pi0.SIZES["debug"], OBSERVATION, (4, 2)).init, KEY)[0]
    assert sum(leaf.size for leaf in jax.tree.leaves(small)) < 50_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image/base": ArraySpec((2, 12, 16, 3), "uint8")}, "pi0 sees one step, but image/base is a history of 2"),
        ({"state/arm": ArraySpec((2, 2))}, "pi0 sees one step, but state/arm is a history of 2"),
        ({"image/base": ArraySpec((12, 16, 3))}, r"pictures \[height, width, 3\] of uint8, but image/base has the shape .* of float32"),
        (
            {"task/instruction": ArraySpec((4,))},
            r"task/instruction, int32 \[length\], -1 where there is no token; it is of the shape \(4,\)",
        ),
        ({"task/instruction": None}, r"task/instruction, int32 .*; it is not there"),
        ({"image/base": None, "image/wrist": None}, "needs at least one image/<camera>"),
        ({"state/arm": ArraySpec((6,))}, "room for 6 numbers of states, but state/arm, state/gripper have 7"),
    ],
)
def test_what_it_does_not_see_is_refused(change, message):
    spec = {name: part for name, part in (OBSERVATION | change).items() if part is not None}
    with pytest.raises(ValueError, match=message):
        pi0.pi0(CONFIG, spec, OUTPUT)


def test_other_impossible_things_are_refused():
    with pytest.raises(ValueError, match="there is no camera 'image/side'; offered are image/base, image/wrist"):
        pi0.pi0(replace(CONFIG, cameras=("side",)), OBSERVATION, OUTPUT)
    with pytest.raises(ValueError, match="room for 6 numbers of an action, but it has 7"):
        pi0.pi0(CONFIG, OBSERVATION, (3, 7))
    with pytest.raises(ValueError, match="neither a vocabulary nor a condition"):
        pi0.Config(SEEING, TEXT)
    with pytest.raises(ValueError, match="fresh: has no effect without weights"):
        pi0.Config(fresh=("x",))
    with pytest.raises(ValueError, match="depth: attention over all tokens needs the same number"):
        pi0.pi0(replace(CONFIG, action=replace(ACTION, depth=3)), OBSERVATION, OUTPUT)
