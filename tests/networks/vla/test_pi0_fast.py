"""pi0-FAST against one causal pass over all tokens that count, and from instruction to chunk with its tokenizers."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks.transformer.experts import experts
from jaxrl.networks.transformer.paligemma import paligemma
from jaxrl.networks.vla import pi0_fast
from jaxrl.objectives import tokens
from jaxrl.ops.paths import flatten_names
from jaxrl.tokenizers import fast, text
from jaxrl.types import ArraySpec, PolicySpec
from tests.networks.vla.small import EXACT, KEY, OBSERVATION, SEEING, TEXT, disturbed, observation, patches, square
from tests.networks.vla.tokenizing import tokenizers_file

LARGER = replace(SEEING, text=replace(TEXT, vocabulary=600))
SPEC = PolicySpec(OBSERVATION, ArraySpec((2,)), horizon=3)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[str, str]:
    """Of the language, and of actions."""
    folder = tmp_path_factory.mktemp("tokenizers")
    words = tokenizers_file(folder)
    chunks = np.random.default_rng(0).uniform(-1, 1, (200, 3, 2))
    fast.save(fast.fit(fast.Config(vocabulary=90, scale=4.0), chunks), folder / "fast.json")
    return words, str(folder / "fast.json")


def test_a_loss_is_that_of_one_causal_pass(files):
    words, actions = files
    config = tokens.Config(actions, language=words, vocabulary=600, head="Action: ", max_tokens=24)
    network = pi0_fast.pi0_fast(pi0_fast.Config(LARGER, tokenizer=words), OBSERVATION, tokens.output_shape(config, SPEC))
    objective = tokens.tokens(config, SPEC, network)
    own, statistics = disturbed(network.init), jax.jit(lambda: objective.init(KEY)[1])()
    action = np.random.default_rng(1).uniform(-1, 1, (2, 3, 2)).astype(np.float32)
    batch = {"observation": observation(), "action": jnp.asarray(action)}

    @jax.jit
    def loss(params):
        elements, mask, _, metrics = objective.loss({"tokens": params}, statistics, batch, KEY)
        return elements, mask, metrics

    elements, mask, metrics = loss(own)
    assert metrics["state_outside"] == 0.0 and metrics["cut"] == 0.0
    # The second row, which lacks a camera, as a text.
    tokenizer, seen = text.load(words), jax.tree.map(lambda x: np.asarray(x[1]), observation())
    state = np.concatenate([seen["state/arm"], seen["state/gripper"][0]])
    bins = np.digitize(state, np.linspace(-1, 1, 257)[:-1]) - 1
    prompt = [*seen["task/instruction"][:2], *text.continued(tokenizer, "Task: go", f", State: {' '.join(map(str, bins))};\n")]
    ids = fast.fast(fast.load(actions)).encode(action[1:])[0][0]
    target = [*tokenizer.encode("Action: "), *(600 - 1 - 128 - token for token in ids), *tokenizer.encode("|"), tokenizer.eos]
    sight = patches(jax.jit(paligemma(LARGER).see), own, [square(seen["image/base"])])[0]
    table = np.asarray(own["text"]["embedding"], np.float64)
    x = np.concatenate([sight, table[[*prompt, *target[:-1]]] * np.sqrt(TEXT.width)])
    p, n = len(sight) + len(prompt), len(x)
    causal = np.tril(np.ones((n, n), bool))
    causal[:p, :p] = True
    body = experts({"text": LARGER.text.size()}, EXACT)
    after = jax.jit(body.apply)(own, {"text": jnp.asarray(x, jnp.float32)[None]}, jnp.asarray(causal)[None], jnp.arange(n)[None])["text"][0]
    logits = np.asarray(after, np.float64)[p - 1 :] @ table.T
    expected = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(target)), target]
    assert np.asarray(mask[1]).tolist() == [1] * len(target) + [0] * (24 - len(target))
    np.testing.assert_allclose(elements[1, : len(target)], expected, rtol=1e-4)


def test_weights_that_tell_no_actions_act_as_the_middle_of_the_data(files):
    words, actions = files
    config = tokens.Config(actions, language=words, vocabulary=600, head="Action: ", max_tokens=24)
    network = pi0_fast.pi0_fast(pi0_fast.Config(LARGER, tokenizer=words), OBSERVATION, tokens.output_shape(config, SPEC))
    objective = tokens.tokens(config, SPEC, network)
    params, statistics = {"tokens": disturbed(network.init)}, jax.jit(lambda: objective.init(KEY)[1])()
    chunk, extras = jax.jit(objective.sample)(params, statistics, observation(), jax.random.split(KEY, 2))
    assert chunk.shape == (2, 3, 2) and not chunk.any() and not extras["policy/decoded"].any()


def test_sizes_are_the_published_ones():
    cameras = {f"image/{name}": ArraySpec((224, 224, 3), "uint8") for name in ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")}
    seen = cameras | {"state/all": ArraySpec((32,)), "task/instruction": ArraySpec((48,), "int32")}
    whole = jax.eval_shape(pi0_fast.pi0_fast(replace(pi0_fast.SIZES["3b"], state="hidden"), seen, (256, 257_152)).init, KEY)[0]
    assert sum(leaf.size for leaf in jax.tree.leaves(whole)) == 2_508_531_712 + 414_803_696
    assert {name.split("/")[0] for name in flatten_names(whole)} == {"vision", "projector", "text"}


def test_other_tokens_are_refused():
    with pytest.raises(ValueError, match=r"pi0_fast writes sequences \(length, 300\) of its language's tokens, .* by its `language`"):
        pi0_fast.pi0_fast(pi0_fast.Config(SEEING, "hidden"), OBSERVATION, (6, 8))
    with pytest.raises(ValueError, match="room for 2 numbers of states"):
        pi0_fast.pi0_fast(pi0_fast.Config(SEEING, "hidden", state_dim=2), OBSERVATION, (6, 300))
    with pytest.raises(ValueError, match="tokenizer: missing"):
        pi0_fast.pi0_fast(pi0_fast.Config(SEEING), OBSERVATION, (6, 300))
