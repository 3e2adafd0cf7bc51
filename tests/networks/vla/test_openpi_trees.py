"""Whole trees as openpi has them become these networks, also from a checkpoint as it writes one."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxrl.generative import flow as lines
from jaxrl.networks.transformer import openpi
from jaxrl.networks.vla import pi0, pi0_fast, pi05
from jaxrl.objectives import flow
from jaxrl.ops.paths import flatten_names
from tests.golden import named
from tests.networks.vla import as_openpi
from tests.networks.vla.small import ACTION, KEY, OBSERVATION, OUTPUT, SEEING, TEXT, observation, square

LLM, IMG = "PaliGemma/llm/", "PaliGemma/img/"
SIGHT, SIDE, PATCH = SEEING.vision, SEEING.vision.image // SEEING.vision.patch, SEEING.vision.patch
NETWORKS = {
    "pi0": lambda **fields: pi0.pi0(pi0.Config(SEEING, ACTION, 6, **fields), OBSERVATION, OUTPUT),
    "pi05": lambda **fields: pi05.pi05(pi05.Config(SEEING, ACTION, 6, "hidden", **fields), OBSERVATION, OUTPUT),
    "pi0_fast": lambda **fields: pi0_fast.pi0_fast(pi0_fast.Config(SEEING, "hidden", **fields), OBSERVATION, (8, TEXT.vocabulary)),
}


def dense(name, inputs, outputs):
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def shapes(kind: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all that openpi has."""
    found = {f"{LLM}embedder/input_embedding": (TEXT.vocabulary, TEXT.width)}
    for mark, size in (("", TEXT), ("_1", ACTION))[: 1 if kind == "pi0_fast" else 2]:
        layers, heads, width = size.depth, size.heads, size.width
        found |= {
            f"{LLM}layers/attn/q_einsum{mark}/w": (layers, heads, width, size.head_dim),
            f"{LLM}layers/attn/kv_einsum{mark}/w": (layers, 2, size.kv_heads, width, size.head_dim),
            f"{LLM}layers/attn/attn_vec_einsum{mark}/w": (layers, heads, size.head_dim, width),
            f"{LLM}layers/mlp{mark}/gating_einsum": (layers, 2, width, size.mlp),
            f"{LLM}layers/mlp{mark}/linear": (layers, size.mlp, width),
        }
        for norm, of in (("layers/pre_attention_norm", (layers,)), ("layers/pre_ffw_norm", (layers,)), ("final_norm", ())):
            if mark and kind == "pi05":
                found[f"{LLM}{norm}{mark}/Dense_0/kernel"] = (*of, width, 3 * width)
                found[f"{LLM}{norm}{mark}/Dense_0/bias"] = (*of, 3 * width)
            else:
                found[f"{LLM}{norm}{mark}/scale"] = (*of, width)
    block, depth, wide = f"{IMG}Transformer/encoderblock/", SIGHT.depth, SIGHT.width
    attention, size = f"{block}MultiHeadDotProductAttention_0/", wide // SIGHT.heads
    found |= {f"{IMG}embedding/kernel": (PATCH, PATCH, 3, wide), f"{IMG}embedding/bias": (wide,)}
    found |= {f"{IMG}pos_embedding": (1, SIDE**2, wide)}
    for part in ("query", "key", "value"):
        found |= {f"{attention}{part}/kernel": (depth, wide, SIGHT.heads, size), f"{attention}{part}/bias": (depth, SIGHT.heads, size)}
    found |= {f"{attention}out/kernel": (depth, SIGHT.heads, size, wide), f"{attention}out/bias": (depth, wide)}
    for i, (inputs, outputs) in enumerate(((wide, SIGHT.mlp), (SIGHT.mlp, wide))):
        found |= {f"{block}LayerNorm_{i}/{part}": (depth, wide) for part in ("scale", "bias")}
        found |= {f"{block}MlpBlock_0/Dense_{i}/kernel": (depth, inputs, outputs), f"{block}MlpBlock_0/Dense_{i}/bias": (depth, outputs)}
    found |= {f"{IMG}Transformer/encoder_norm/{part}": (wide,) for part in ("scale", "bias")} | dense(f"{IMG}head", wide, TEXT.width)
    width = ACTION.width
    if kind != "pi0_fast":
        found |= dense("action_in_proj", 6, width) | dense("action_out_proj", width, 6)
    if kind == "pi0":
        found |= dense("state_proj", 6, width) | dense("action_time_mlp_in", 2 * width, width) | dense("action_time_mlp_out", width, width)
    if kind == "pi05":
        found |= dense("time_mlp_in", width, width) | dense("time_mlp_out", width, width)
    return found


@functools.cache
def arrays(kind: str) -> dict[str, np.ndarray]:
    return named.weights(shapes(kind), kind)


def saved(arrays, folder, ending=""):
    """As openpi keeps parameters: under params, each in a dict of its own where they are nnx's."""
    import orbax.checkpoint as ocp

    tree: dict = {}
    for name, array in arrays.items():
        *above, last = f"params/{name}{ending}".split("/")
        functools.reduce(lambda node, part: node.setdefault(part, {}), above, tree)[last] = array
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(folder / "params", tree)
    return folder


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_whole_tree_has_its_places(kind):
    template = jax.eval_shape(NETWORKS[kind]().init, KEY)[0]
    params = openpi.placed(arrays(kind), template)
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda x: x.shape, template)
    ours, theirs = (sorted(np.concatenate([np.ravel(x) for x in tree.values()])) for tree in (flatten_names(params), arrays(kind)))
    np.testing.assert_array_equal(ours, theirs)  # each number once


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_what_is_computed_is_what_openpi_computes(kind):
    """Velocity, loss for given noise and time, and ten steps, of a tree as openpi has it."""
    network = {"pi0": pi0.pi0, "pi05": pi05.pi05}[kind]
    config = {"pi0": pi0.Config(SEEING, ACTION, 6), "pi05": pi05.Config(SEEING, ACTION, 6, "hidden")}[kind]
    own = network(config, OBSERVATION, (3, 6))
    params = jax.tree.map(jnp.asarray, openpi.placed(arrays(kind), jax.eval_shape(own.init, KEY)[0]))
    chunk, noise = (np.asarray(jax.random.normal(jax.random.key(i), (2, 3, 6))) for i in range(2))
    time = np.array([0.3, 0.8], np.float32)

    @jax.jit
    def of(params):
        condition, _ = own.encode(params, {}, observation())
        denoise = lambda noisy, time: own.denoise(params, noisy, time, condition)  # noqa: E731
        errors = flow.errors(denoise, jnp.asarray(chunk), jnp.asarray(time), jnp.asarray(noise))
        return errors, lines.sample("euler", 10, denoise, jnp.asarray(noise))

    errors, sampled = of(params)
    for row in range(2):
        seen = jax.tree.map(lambda x, row=row: np.asarray(x[row]), observation())
        pictures = np.stack([square(seen["image/base"]), seen["image/wrist"]]) / 127.5 - 1
        state = np.pad(np.concatenate([seen["state/arm"], seen["state/gripper"][0]]), (0, 3))
        told = pictures, [True, row == 0], seen["task/instruction"], state

        def theirs(noisy, time, told=told):
            return as_openpi.velocity(arrays(kind), *told, noisy, time)

        noisy = time[row] * noise[row] + (1 - time[row]) * chunk[row]
        expected = (theirs(noisy, time[row]) - (noise[row] - chunk[row])) ** 2
        np.testing.assert_allclose(errors[row], expected, rtol=1e-3, atol=1e-4)
        x, now, dt = noise[row], 1.0, -0.1
        while now >= -dt / 2:
            x, now = x + dt * theirs(x, now), now + dt
        np.testing.assert_allclose(sampled[row], x, atol=2e-4)


@pytest.mark.parametrize("ending", ["", "/value"])
def test_a_checkpoint_is_what_a_network_begins_with(ending, tmp_path):
    rough = {name: x.astype(ml_dtypes.bfloat16) for name, x in arrays("pi0").items()}
    network = NETWORKS["pi0"](weights=str(saved(rough, tmp_path, ending)))
    params, _ = jax.jit(network.init)(KEY)
    expected = openpi.placed({name: x.astype(np.float32) for name, x in rough.items()}, jax.eval_shape(NETWORKS["pi0"]().init, KEY)[0])
    jax.tree.map(np.testing.assert_array_equal, params, jax.tree.map(jnp.asarray, expected))
    for folder in (tmp_path, tmp_path / "params"):
        assert openpi.read(folder).keys() == rough.keys()


def test_what_is_named_may_begin_anew(tmp_path):
    smaller = {name: x for name, x in arrays("pi05").items() if not name.startswith("action_in_proj")}
    saved(smaller | {"action_out_proj/kernel": np.zeros((8, 9), np.float32), "other/bias": np.zeros(3, np.float32)}, tmp_path)
    with pytest.raises(Exception, match="lack action_in_proj/bias, action_in_proj/kernel and have what this network does not: other/bias"):
        jax.block_until_ready(jax.jit(NETWORKS["pi05"](weights=str(tmp_path)).init)(KEY))
    network = NETWORKS["pi05"](weights=str(tmp_path), fresh=("^action_(in|out)_proj/", "^other/"))
    params, _ = jax.jit(network.init)(KEY)
    at_random, _ = jax.jit(NETWORKS["pi05"]().init)(KEY)
    np.testing.assert_array_equal(params["action_in_proj"]["kernel"], at_random["action_in_proj"]["kernel"])
    np.testing.assert_array_equal(params["time_mlp_in"]["kernel"], arrays("pi05")["time_mlp_in/kernel"])


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint of openpi, which is a folder that has a folder params"):
        openpi.read(tmp_path)
    with pytest.raises(ValueError, match="fresh: the pattern 'heads' is found in no parameter, neither of this network nor of openpi"):
        openpi.placed(arrays("pi0"), jax.eval_shape(NETWORKS["pi0"]().init, KEY)[0], ["heads"])
    with pytest.raises(
        ValueError, match="parameters of openpi lack .* and have what this network does not: state_proj/bias, state_proj/kernel"
    ):
        openpi.placed({f"state_proj/{name}": np.zeros(3) for name in ("kernel", "bias")}, jax.eval_shape(NETWORKS["pi05"]().init, KEY)[0])
