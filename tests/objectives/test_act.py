"""ACT against LeRobot, whose answers are in tests/golden/lerobot_act.npz, and what padding does to it."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import _pretrained as pretrained
from jaxrl.networks import act as networks
from jaxrl.networks.vision.cameras import Config as Cameras
from jaxrl.objectives import act
from jaxrl.ops.padding import masked_mean
from jaxrl.ops.paths import flatten_names, map_with_path
from jaxrl.types import ArraySpec, PolicySpec
from tests.golden import named

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "lerobot_act.npz")
KEY = jax.random.key(0)
SMALL = {"size": 32, "heads": 4, "hidden": 64, "encoder_layers": 1, "posterior_layers": 2, "latent_size": 6, "dropout": 0.0}
STATE = {"state/joints": ArraySpec((5,))}
STATES = STATE | {"state/objects": ArraySpec((4,))}
PICTURES = STATE | {"image/a": ArraySpec((64, 48, 3), "uint8")}
PADDED = jnp.arange(8)[None] < jnp.array([8, 5, 1])[:, None]
BATCH = {
    "observation": {
        "state/joints": jnp.asarray(named.draws("state", (3, 5))),
        "state/objects": jnp.asarray(named.draws("environment", (3, 4))),
    },
    "action": jnp.asarray(named.draws("chunk", (3, 8, 3))),
}

# The names of LeRobot for ours, in this order; a number behind a colon is which third of a packed matrix.
NAMES = {
    r"^posterior/layer_(\d)/": r"vae_encoder.layers.\1.",
    r"^transformer/(encoder|decoder)_(\d)/": r"\1.layers.\2.",
    r"self_attention/output/": "self_attn.out_proj.",
    r"cross_attention/output/": "multihead_attn.out_proj.",
    r"self_attention/(query|key|value)/(\w+)": r"self_attn.in_proj_\2:\1",
    r"cross_attention/(query|key|value)/(\w+)": r"multihead_attn.in_proj_\2:\1",
    r"(?<=\d\.)hidden/": "linear1.",
    r"(?<=\d\.)output/": "linear2.",
    r"(?<=\d\.)self_norm/": "norm1.",
    r"(?<=\d\.)cross_norm/": "norm2.",
    r"(encoder.layers.\d.)output_norm/": r"\1norm2.",
    r"(decoder.layers.\d.)output_norm/": r"\1norm3.",
    r"^posterior/class$": "vae_encoder_cls_embed.weight",
    r"^posterior/state/": "vae_encoder_robot_state_input_proj.",
    r"^posterior/action/": "vae_encoder_action_input_proj.",
    r"^posterior/output/": "vae_encoder_latent_output_proj.",
    r"^tokens/state/": "encoder_robot_state_input_proj.",
    r"^tokens/environment/": "encoder_env_state_input_proj.",
    r"^tokens/picture/": "encoder_img_feat_input_proj.",
    r"^transformer/latent/": "encoder_latent_input_proj.",
    r"^transformer/positions$": "encoder_1d_feature_pos_embed.weight",
    r"^transformer/queries$": "decoder_pos_embed.weight",
    r"^transformer/norm/": "decoder.norm.",
    r"^transformer/output/": "action_head.",
    r"(kernel|scale)(?=$|:)": "weight",
}


def theirs(path: str) -> str:
    if path.startswith("backbone/shared/"):
        return "backbone." + pretrained.NAMINGS["resnet"].theirs(path.removeprefix("backbone/shared/"))
    for pattern, name in NAMES.items():
        path = re.sub(pattern, name, path)
    return path


def transplanted(template, state):
    """`template` with their weights."""

    def leaf(path, ours):
        name, _, third = theirs(path).partition(":")
        array = state[name]
        if third:
            array = np.split(array, 3)[("query", "key", "value").index(third)]
        if path.endswith("kernel"):
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        return jnp.asarray(array.reshape(ours.shape))

    return map_with_path(leaf, template)


def as_theirs(gradient, shapes):
    """Slopes by their names, thirds put together."""
    found, packed = {}, {}
    for path, slope in flatten_names(gradient).items():
        name, _, third = theirs(path).partition(":")
        slope = np.asarray(slope)
        if path.endswith("kernel"):
            slope = slope.transpose(3, 2, 0, 1) if slope.ndim == 4 else slope.T
        if third:
            packed.setdefault(name, {})[third] = slope
        else:
            found[name] = slope.reshape(shapes[name])
    return found | {name: np.concatenate([thirds[part] for part in ("query", "key", "value")]) for name, thirds in packed.items()}


def build(observation=STATES, network_fields=None, **fields):
    network = networks.act(networks.Config(**SMALL | (network_fields or {})), observation, (8, 3))
    return network, act.act(act.Config(**fields), PolicySpec(observation, ArraySpec((3,)), horizon=8), network)


STATES_ALONE = {"environment": ("objects",), "decoder_layers": 2}
WITH_PICTURES = {"posterior_layers": 1, "cameras": Cameras(norm="batch", shared=True, weights="theirs")}


@functools.cache
def compiled(pictures: bool):
    """Everything that is compared, of weights and a batch, as one program; the noise is LeRobot's."""
    network, objective = build(PICTURES, WITH_PICTURES) if pictures else build(STATES, STATES_ALONE)

    def everything(params, statistics, batch):
        def loss(params):
            elements, mask, _, metrics = objective.loss({"act": params}, {"act": statistics}, batch, KEY)
            return masked_mean(elements, mask), metrics | {"elements": elements, "mask": mask}

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(jax.random, "normal", lambda key, shape: jnp.asarray(named.draws("noise", shape)))
            (value, told), slopes = jax.value_and_grad(loss, has_aux=True)(params)
        sampled = objective.sample({"act": params}, {"act": statistics}, batch["observation"], jax.random.split(KEY, 3))
        mean, log_variance = network.posterior(params, batch["observation"], batch["action"], batch["mask"].max(-1))
        return told | {"loss": value, "sampled": sampled, "mean": mean, "log_variance": log_variance}, slopes

    return network, jax.jit(everything)


def shapes_of(case):
    return {line.split(" ")[0]: tuple(int(n) for n in line.split(" ")[1:] if n) for line in GOLDEN[f"{case}/state"]}


@functools.cache
def weights(case):
    network, _ = compiled(case.startswith("pictures"))
    return [transplanted(part, named.weights(shapes_of(case), "act/")) for part in jax.eval_shape(network.init, KEY)]


@pytest.mark.parametrize("case", ["states", "states_padded", "pictures_padded"])
def test_against_lerobot(case):
    _, everything = compiled(case.startswith("pictures"))
    mask = jnp.repeat((PADDED if case.endswith("padded") else jnp.ones_like(PADDED))[..., None], 3, -1).astype(jnp.float32)
    observation = BATCH["observation"]
    if case.startswith("pictures"):
        observation = observation | {"image/a": jnp.asarray(named.pixels("pixels", (3, 64, 48, 3)))}
    answers, slopes = everything(*weights(case), {"observation": observation, "action": BATCH["action"], "mask": mask})
    for name in ("loss", "kl", "sampled", "mean", "log_variance"):
        want = GOLDEN[f"{case}/{name}"]
        np.testing.assert_allclose(answers[name], want, rtol=1e-5, atol=1e-5 * np.abs(want).max(), err_msg=name)
    np.testing.assert_allclose(answers["l1"] + 10 * answers["kl"], answers["loss"], rtol=1e-5)
    found = as_theirs(slopes, shapes_of(case))
    assert sorted(found) == list(GOLDEN[f"{case}/names"])
    told, want = named.told(found), GOLDEN[f"{case}/slopes"]
    allowed = 1e-4 * want[:, :1] + 1e-6 * want[:, 0].max()  # biases of keys have no slope but rounding
    assert (np.abs(told - want) < allowed).all(), np.abs(told - want).max(1)


MASK = jnp.repeat(PADDED[..., None], 3, -1).at[1, :, 2].set(False).astype(jnp.float32)  # of steps, and a dimension that one robot lacks
COMPARED = ("loss", "l1", "kl", "elements")


def answered(**fields):
    answers, slopes = compiled(False)[1](*weights("states"), BATCH | fields)
    return {name: answers[name] for name in COMPARED}, slopes


@pytest.mark.parametrize("garbage", [1e20, jnp.nan, jnp.inf])
def test_padding_reaches_neither_loss_nor_gradient(garbage):
    dirty = answered(mask=MASK, action=jnp.where(MASK > 0, BATCH["action"], garbage))
    jax.tree.map(np.testing.assert_array_equal, answered(mask=MASK), dirty)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(dirty))


def test_a_row_that_is_padded_altogether_counts_nowhere():
    mask = MASK.at[1].set(0.0)
    told, slopes = answered(mask=mask)
    elements, valid = np.asarray(told["elements"], np.float64), np.asarray(mask) > 0
    np.testing.assert_allclose(told["loss"], elements[valid].mean(), rtol=1e-5)
    np.testing.assert_allclose(told["loss"], told["l1"] + 10 * told["kl"], rtol=1e-5)
    moved = {name: x.at[1].set(7.0) for name, x in BATCH["observation"].items()}
    other, others = answered(mask=mask, observation=moved, action=BATCH["action"].at[1].set(9.0))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # noqa: E731
    jax.tree.map(close, (told["loss"], told["l1"], told["kl"], slopes), (other["loss"], other["l1"], other["kl"], others))
    nothing, still = answered(mask=jnp.zeros_like(mask))
    assert nothing["loss"] == 0 and all((leaf == 0).all() for leaf in jax.tree.leaves(still))


@functools.cache
def tiny():
    _, objective = build(STATE, {"size": 8, "heads": 2, "hidden": 8, "posterior_layers": 1, "dropout": 0.1})
    return objective, *jax.jit(objective.init)(KEY)


def test_without_a_mask_everything_counts_and_the_key_matters_in_training_alone():
    objective, params, statistics = tiny()
    loss = jax.jit(lambda key: objective.loss(params, statistics, BATCH, key)[:2])
    (elements, counts), (others, _) = loss(KEY), loss(jax.random.key(1))
    assert (counts == 1).all() and counts.shape == elements.shape == (3, 8, 3)
    assert (elements != others).any()
    sample = jax.jit(lambda key: objective.sample(params, statistics, BATCH["observation"], jax.random.split(key, 3)))
    np.testing.assert_array_equal(sample(KEY), sample(jax.random.key(1)))


def test_numbers_of_lerobot():
    observation = {"state/joints": ArraySpec((14,)), "image/a": ArraySpec((480, 640, 3), "uint8")}
    network = networks.act(networks.Config(Cameras(norm="batch", shared=True, weights="theirs")), observation, (100, 14))
    params, statistics = jax.eval_shape(network.init, KEY)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 51_613_582
    assert sum(leaf.size for leaf in jax.tree.leaves(statistics)) == 2 * 9_600


def test_weights_begin_as_large_as_lerobots():
    _, params, _ = tiny()
    largest = {path: float(jnp.abs(leaf).max()) for path, leaf in flatten_names(params["act"]).items()}
    for path, bound in {  # of matrices 8 x 8, of which three are one for queries, keys and values
        "posterior/layer_0/self_attention/query/kernel": (6 / 32) ** 0.5,
        "posterior/layer_0/self_attention/output/kernel": 8**-0.5,
        "posterior/layer_0/hidden/bias": 8**-0.5,
        "transformer/encoder_0/self_attention/value/kernel": (6 / 32) ** 0.5,
        "transformer/decoder_0/cross_attention/output/kernel": (6 / 16) ** 0.5,
        "transformer/decoder_0/hidden/kernel": (6 / 16) ** 0.5,
        "tokens/state/bias": 5**-0.5,
    }.items():
        assert 0.75 * bound < largest[path] <= bound, path
    assert largest["transformer/decoder_0/cross_attention/key/bias"] == 0.0


@pytest.mark.parametrize(
    ("observation", "fields", "message"),
    [
        ({"task/a": ArraySpec((3,))}, {}, "act needs a state/<group> or image/<camera> observation; offered are task/a"),
        ({"state/a": ArraySpec((2, 3))}, {}, "act looks at one step"),
        (STATES, {"environment": ("boxes",)}, "there is no state/boxes; offered are state/joints, state/objects"),
        (STATES, {"size": 30}, "size is 30"),
        (STATES, {"dropout": 1.0}, "dropout is 1.0"),
        (STATES, {"decoder_layers": 0}, "decoder_layers is 0"),
    ],
)
def test_what_does_not_fit_is_refused(observation, fields, message):
    with pytest.raises(ValueError, match=message):
        build(observation, fields)


def test_chunks_of_vectors_and_weights_that_are_no_penalty():
    with pytest.raises(ValueError, match=r"act makes chunks \[horizon, action_dim\], but the output is to have the shape \(8,\)"):
        networks.act(networks.Config(), STATES, (8,))
    with pytest.raises(ValueError, match="kl_weight is -1"):
        act.Config(kl_weight=-1.0)


@pytest.mark.parametrize("observation", [{"image/a": ArraySpec((20, 24, 3), "uint8"), "image/b": ArraySpec((16, 16, 3), "uint8")}])
def test_pictures_alone_of_different_sizes(observation):
    network, objective = build(
        observation, {"cameras": Cameras("resnet_debug", crop=(16, 16), shift=1), "size": 8, "heads": 2, "hidden": 8}
    )
    params, statistics = jax.eval_shape(objective.init, KEY)
    seen = {name: jax.ShapeDtypeStruct((2, *part.shape), jnp.uint8) for name, part in observation.items()}
    batch = {"observation": seen, "action": jax.ShapeDtypeStruct((2, 8, 3), jnp.float32)}
    elements, _, _, _ = jax.eval_shape(objective.loss, params, statistics, batch, KEY)
    assert elements.shape == (2, 8, 3) and set(params["act"]["backbone"]) == {"a", "b"}
    condition, _ = jax.eval_shape(network.encode, params["act"], statistics["act"], seen)
    assert condition.shape == (2, 2 * 2 * 2, 8)  # 16 x 16 leave 2 x 2 of each camera
