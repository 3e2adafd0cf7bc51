import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.algorithms import supervised
from jaxrl.networks import token_decoder
from jaxrl.networks.interface import TokenDecoder
from jaxrl.objectives import tokens
from jaxrl.ops import running_statistics
from jaxrl.ops.padding import masked_mean
from jaxrl.tokenizers import fast, text
from jaxrl.types import ArraySpec, PolicySpec
from tests.networks.vla.tokenizing import tokenizers_file

SPEC = PolicySpec({"state/a": ArraySpec((1,))}, ArraySpec((2,)), horizon=4)
KEY = jax.random.key(0)
BINS = {"bins": 8, "limit": 2.0}


def smooth(count: int = 64, seed: int = 0) -> np.ndarray:
    draws, time = np.random.default_rng(seed), np.linspace(0, 1, 4)[None, :, None]
    a, b = draws.uniform(-0.5, 0.5, (2, count, 1, 2))
    return (a + b * time).astype(np.float32)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    """The file of one that is fitted to smooth chunks."""
    pytest.importorskip("tokenizers", reason='needs pip install "jaxrl[vla]"')
    path = tmp_path_factory.mktemp("tokenizers") / "fast.json"
    fast.save(fast.fit(fast.Config(vocabulary=60), smooth(400)), path)
    return str(path)


def made(network: TokenDecoder | None = None, **fields):
    config = tokens.Config(**fields)
    small = token_decoder.Config(8, 1, 2, dropout=0.0)
    network = network or token_decoder.token_decoder(small, SPEC.observation, tokens.output_shape(config, SPEC))
    objective = tokens.tokens(config, SPEC, network)
    return objective, *jax.jit(objective.init)(KEY)


def batch(action, mask=None):
    action = jnp.asarray(action, jnp.float32)
    found = {"observation": {"state/a": jnp.zeros((len(action), 1))}, "action": action}
    return found if mask is None else found | {"mask": jnp.asarray(mask, jnp.float32)}


def telling(logits, seen: list | None = None) -> TokenDecoder:
    """Says `logits` [L, V] of each place, for every row those of a sequence [B, L, V]; tells how many steps it was asked for."""

    def step(params, token, cache, condition):
        if seen is not None:
            jax.debug.callback(lambda place: seen.append(int(place)), cache["place"])
        return params["scale"] * logits[:, cache["place"]], {"place": cache["place"] + 1}

    return TokenDecoder(
        lambda key: ({"scale": jnp.ones(())}, {}),
        lambda params, statistics, observation, key=None, train=False: (observation["state/a"], statistics),
        lambda params, written, condition, key=None, train=False: params["scale"] * logits,
        lambda params, condition: {"place": jnp.zeros((), jnp.int32)},
        step,
    )


def sampled(objective, params, statistics, size: int, key=KEY):
    chunk, extras = jax.jit(objective.sample)(params, statistics, {"state/a": jnp.zeros((size, 1))}, jax.random.split(key, size))
    return np.asarray(chunk), np.asarray(extras["policy/decoded"])


def oracle(logits, written):
    """-log softmax in numpy."""
    logits = np.asarray(logits, np.float64)
    return np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, np.asarray(written, int)[..., None], -1)[..., 0]


# Bins


def test_bins_against_numpy():
    draws = np.random.default_rng(0)
    logits, action = draws.normal(size=(3, 8, 8)), draws.uniform(-2.2, 2.2, (3, 4, 2)).astype(np.float32)
    mask = draws.integers(0, 2, (3, 4, 2))
    objective, params, statistics = made(telling(jnp.asarray(logits, jnp.float32)), **BINS)
    elements, counts, _, metrics = objective.loss(params, statistics, batch(np.where(mask, action, np.nan), mask), KEY)
    which = np.clip(np.floor((action + 2) / 0.5), 0, 7).astype(int).reshape(3, 8)
    np.testing.assert_array_equal(counts, mask.reshape(3, 8))
    counted = np.asarray(counts) > 0
    np.testing.assert_allclose(np.asarray(elements)[counted], oracle(logits, which)[counted], rtol=1e-5)
    np.testing.assert_allclose(metrics["right"], (logits.argmax(-1) == which)[counted].mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["clipped"], (np.abs(action) > 2)[mask > 0].mean(), rtol=1e-6)


def test_the_likeliest_bins_are_the_chunk():
    draws = np.random.default_rng(1)
    logits = draws.normal(size=(3, 8, 8))
    objective, params, statistics = made(telling(jnp.asarray(logits, jnp.float32)), **BINS)
    chunk, decoded = sampled(objective, params, statistics, 3)
    np.testing.assert_allclose(chunk, (-2 + 0.5 * (logits.argmax(-1) + 0.5)).reshape(3, 4, 2), rtol=1e-6)
    assert (decoded == 1).all()


def test_a_temperature_draws_by_the_probabilities():
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.1, 0.9]))[None, None], (500, 8, 2))
    objective, params, statistics = made(telling(logits), bins=2, temperature=1.0)
    chunk, _ = sampled(objective, params, statistics, 500)
    np.testing.assert_allclose((chunk > 0).mean(0), 0.9, atol=0.05)
    assert len({row.tobytes() for row in chunk}) > 50  # tokens are drawn apart, and rows too
    sharper, params, statistics = made(telling(logits), bins=2, temperature=0.2)
    assert (sampled(sharper, params, statistics, 500)[0] > 0).mean() > 0.999


# FAST


def test_fast_is_written_on_the_host_with_its_end(tokenizer):
    definition = fast.load(tokenizer)
    one, action = fast.fast(definition), smooth(5, seed=2)
    expected, _ = one.encode(action)
    length, vocabulary = tokens.output_shape(tokens.Config(tokenizer), SPEC)
    assert (length, vocabulary) == (16, one.size + 1)
    logits = np.random.default_rng(0).normal(size=(6, length, vocabulary))
    objective, params, statistics = made(telling(jnp.asarray(logits, jnp.float32)), tokenizer=tokenizer)
    mask = np.ones((6, 4, 2))
    mask[5] = 0.0  # nothing of it: garbage never reaches the tokenizer, which takes no NaN
    loss = jax.jit(objective.loss)
    elements, counts, _, metrics = loss(params, statistics, batch(np.concatenate([action, np.full((1, 4, 2), np.nan)]), mask), KEY)
    for row, ids in enumerate([*expected, None]):
        own = [] if ids is None else [*ids, one.size]
        assert np.asarray(counts[row]).tolist() == [1] * len(own) + [0] * (length - len(own))
        np.testing.assert_allclose(elements[row, : len(own)], oracle(logits[row, : len(own)], own), rtol=1e-5)
    np.testing.assert_allclose(metrics["tokens"], np.mean([len(ids) + 1 for ids in expected]), rtol=1e-6)
    assert metrics["cut"] == 0 and metrics["clipped"] == 0


def test_a_padded_step_is_written_as_the_one_before_it(tokenizer):
    objective, params, statistics = made(tokenizer=tokenizer)
    action, mask = smooth(4), np.ones((4, 4, 2))
    mask[:, 2:] = 0.0
    held = action.copy()
    held[:, 2:] = action[:, 1:2]
    one, other = (jax.jit(objective.loss)(params, statistics, data, KEY)[:2] for data in (batch(action, mask), batch(held)))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_what_is_cut_or_clipped_is_told(tokenizer):
    objective, params, statistics = made(tokenizer=tokenizer, max_tokens=2)
    loss = jax.jit(objective.loss)
    _, counts, _, metrics = loss(params, statistics, batch(smooth(8, seed=5)), KEY)
    longer = np.mean([len(ids) + 1 > 2 for ids in fast.fast(fast.load(tokenizer)).encode(smooth(8, seed=5))[0]])
    assert counts.shape == (8, 2) and metrics["cut"] == longer > 0
    assert loss(params, statistics, batch(9 * smooth(8, seed=5)), KEY)[3]["clipped"] > 0


def test_tokens_become_the_chunk_and_failures_zeros_that_are_told(tokenizer):
    one, action = fast.fast(fast.load(tokenizer)), smooth(3, seed=7)
    length, vocabulary = tokens.output_shape(tokens.Config(tokenizer), SPEC)
    ids, _ = one.encode(action)
    written = np.full((4, length), one.size)  # ends behind each
    for row in range(3):
        written[row, : len(ids[row])] = ids[row]
    written[1, 0] = (written[1, 0] + 1) % one.size
    written[3] = written[0, 0]  # never ends
    expected = one.decode([*ids[:1], written[1, : len(ids[1])].tolist(), ids[2]], faults="zeros")
    objective, params, statistics = made(telling(20.0 * jax.nn.one_hot(written, vocabulary)), tokenizer=tokenizer)
    chunk, decoded = sampled(objective, params, statistics, 4)
    np.testing.assert_allclose(chunk[:3], expected.chunks, atol=1e-6)
    np.testing.assert_array_equal(decoded, [not fault for fault in expected.faults] + [False])
    assert not chunk[3].any() and decoded[0] == 1 and np.abs(chunk[0] - action[0]).max() < 0.2


def test_the_loop_ends_with_the_last_row(tokenizer):
    length, vocabulary = tokens.output_shape(tokens.Config(tokenizer), SPEC)
    written = np.full((3, length), vocabulary - 1)
    written[0, :2], written[1, :5] = 1, 1
    seen: list[int] = []
    objective, params, statistics = made(telling(20.0 * jax.nn.one_hot(written, vocabulary), seen), tokenizer=tokenizer)
    sampled(objective, params, statistics, 3)
    jax.effects_barrier()
    assert sorted(seen) == [0, 1, 2, 3, 4, 5]


def test_the_policy_tells_what_it_could_not_decode(tokenizer):
    _, vocabulary = tokens.output_shape(tokens.Config(tokenizer), SPEC)
    ends = jnp.full((2, 16), vocabulary - 1)
    objective, _, _ = made(telling(20.0 * jax.nn.one_hot(ends, vocabulary)), tokenizer=tokenizer)
    normaliser = running_statistics.init(SPEC.observation | {"action": SPEC.action})
    normaliser = normaliser._replace(mean=normaliser.mean | {"action": jnp.array([3.0, 4.0])})
    algorithm = supervised.supervised(supervised.Config(), {"one": objective}, {"one": 1.0}, normaliser)
    assert algorithm.policy.spec.extras == {"policy/decoded": ArraySpec(())}
    state = algorithm.init(KEY)
    chunk, _, extras = algorithm.policy.act(algorithm.deployable(state), {"state/a": jnp.zeros((2, 1))}, (), jax.random.split(KEY, 2))
    np.testing.assert_allclose(chunk, np.broadcast_to([3.0, 4.0], (2, 4, 2)))  # the middle of the data
    assert extras["policy/decoded"].tolist() == [0, 0]


# In the tokens of a language


@pytest.fixture(scope="module")
def language(tmp_path_factory) -> str:
    return tokenizers_file(tmp_path_factory.mktemp("words"))


def spelt(language: str, ids, head: str = "Action: "):
    """As pi0-FAST writes tokens of FAST: the last of 600 tokens, but 128, stand for them."""
    words = text.load(language)
    return [*words.encode(head), *(600 - 1 - 128 - token for token in ids), *words.encode("|"), words.eos]


@pytest.mark.parametrize("head", ["Action: ", ""])
def test_fast_in_the_tokens_of_a_language(tokenizer, language, head):
    one, action = fast.fast(fast.load(tokenizer)), smooth(4, seed=2)
    fields = {"tokenizer": tokenizer, "language": language, "vocabulary": 600, "head": head, "max_tokens": 30}
    assert tokens.output_shape(tokens.Config(**fields), SPEC) == (30, 600)
    ids, _ = one.encode(action)
    sequences = [spelt(language, own, head) for own in ids]
    logits = np.random.default_rng(0).normal(size=(4, 30, 600))
    objective, params, statistics = made(telling(jnp.asarray(logits, jnp.float32)), **fields)
    elements, counts, _, metrics = jax.jit(objective.loss)(params, statistics, batch(action), KEY)
    for row, own in enumerate(sequences):  # the words around them count too
        assert np.asarray(counts[row]).tolist() == [1] * len(own) + [0] * (30 - len(own))
        np.testing.assert_allclose(elements[row, : len(own)], oracle(logits[row, : len(own)], own), rtol=1e-5)
    assert metrics["tokens"] == np.mean([len(own) for own in sequences])
    written = np.full((4, 30), 5)
    for row, own in enumerate(sequences):
        written[row, : len(own)] = own
    written[1, 0] = 400 if not head else 7  # of another chunk, or another word in front
    written[2, len(sequences[2]) - 3] = 11  # a word among the actions
    objective, params, statistics = made(telling(20.0 * jax.nn.one_hot(written, 600)), **fields)
    chunk, decoded = sampled(objective, params, statistics, 4)
    np.testing.assert_allclose(chunk[[0, 3]], one.decode([ids[0], ids[3]]).chunks, atol=1e-6)
    assert decoded[[0, 2, 3]].tolist() == [1, 0, 1] and not chunk[2].any()
    assert decoded[1] == 0 or not head


def test_a_language_that_is_too_small_is_refused(tokenizer, language):
    with pytest.raises(ValueError, match="vocabulary is 250, but .* tokens of actions, and 128 behind them, would stand in place of what"):
        tokens.output_shape(tokens.Config(tokenizer, language=language, vocabulary=250), SPEC)


def test_the_lowest_frequencies_are_enough(tokenizer):
    definition = fast.load(tokenizer)
    one, action = fast.fast(definition), smooth(6, seed=7)
    length, vocabulary = tokens.output_shape(tokens.Config(tokenizer), SPEC)
    ids, _ = one.encode(action)
    written = np.full((6, length), one.size)
    for row in range(6):
        written[row, : len(ids[row])] = ids[row]
    written[5, 0], written[5, 1] = one.size, 1  # ends before it has begun
    seen: list[int] = []
    objective, params, statistics = made(telling(20.0 * jax.nn.one_hot(written, vocabulary), seen), tokenizer=tokenizer, frequencies=1)
    chunk, decoded = sampled(objective, params, statistics, 6)
    known = one.decode_prefix(ids[:5], count=2)
    np.testing.assert_allclose(chunk[:5], known.chunks, atol=1e-6)
    np.testing.assert_allclose(chunk[:5], np.broadcast_to(chunk[:5, :1], (5, 4, 2)), atol=1e-6)  # the mean of each dimension
    assert decoded.tolist() == [1] * 5 + [0]
    jax.effects_barrier()
    read = [next(n for n in range(1, len(own) + 2) if n > len(own) or one.decode_prefix([own[:n]]).known[0] > 2) for own in ids[:5]]
    assert max(seen) + 1 == max(read) < max(map(len, ids)) + 1


@pytest.mark.parametrize("kind", ["bins", "fast"])
def test_two_ways_are_learnt_as_two(kind, tokenizer):
    config = tokens.Config(tokenizer if kind == "fast" else "", bins=16, temperature=1.0)
    network = token_decoder.token_decoder(token_decoder.Config(16, 1, 2, dropout=0.0), SPEC.observation, tokens.output_shape(config, SPEC))
    objective = tokens.tokens(config, SPEC, network)
    ways = smooth(2, seed=1)
    data, tx = batch(ways[np.arange(16) % 2]), optax.adam(1e-2)

    def learn(carry, key):
        params, statistics, opt_state = carry

        def mean(params):
            elements, mask, after, metrics = objective.loss(params, statistics, data, key)
            return masked_mean(elements, mask), (after, metrics["right"])

        (_, (statistics, right)), gradient = jax.value_and_grad(mean, has_aux=True)(params)
        updates, opt_state = tx.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), statistics, opt_state), right

    def run(key):
        params, statistics = objective.init(key)
        return jax.lax.scan(learn, (params, statistics, tx.init(params)), jax.random.split(key, 150))

    (params, statistics, _), right = jax.jit(run)(KEY)
    assert right[-1] > 0.8 > right[0]
    chunk, decoded = sampled(objective, params, statistics, 100)
    off = np.abs(chunk[:, None] - ways[None]).max((2, 3))
    assert decoded.mean() > 0.95 and (off.min(1) < 0.1).mean() > 0.9
    assert 25 < (off.argmin(1) == 0).sum() < 75


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bins": 1}, "at least 2 bins"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"max_tokens": 5}, "max_tokens: has no effect without a tokenizer"),
        ({"tokenizer": "x", "max_tokens": -1}, "max_tokens is -1"),
        ({"language": "x"}, "language: has no effect without a tokenizer"),
        ({"tokenizer": "x", "head": "Action: "}, "head: has no effect without language"),
        ({"tokenizer": "x", "frequencies": -1}, "frequencies is -1"),
    ],
)
def test_impossible_numbers_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        tokens.Config(**fields)


def test_what_does_not_fit_is_refused(tokenizer):
    with pytest.raises(ValueError, match="there is no file nowhere.json"):
        tokens.output_shape(tokens.Config("nowhere.json"), SPEC)
    with pytest.raises(ValueError, match="fitted to chunks of 4 steps and 2 numbers, but these have 5 and 2"):
        tokens.output_shape(tokens.Config(tokenizer), SPEC._replace(horizon=5))
    with pytest.raises(ValueError, match="frequencies is 5, but a chunk of 4 steps has but 4"):
        tokens.output_shape(tokens.Config(tokenizer, frequencies=5), SPEC)
    with pytest.raises(ValueError, match="tokens needs continuous actions"):
        tokens.tokens(tokens.Config(), SPEC._replace(action=ArraySpec((), "int32", low=0, high=3)), telling(jnp.zeros((1, 1, 1))))
    with pytest.raises(ValueError, match=r"token_decoder makes sequences \[length, vocabulary\]"):
        token_decoder.token_decoder(token_decoder.Config(), SPEC.observation, (3,))
