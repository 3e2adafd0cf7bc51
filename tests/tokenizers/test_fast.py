"""FAST against scipy's transform, a byte-pair encoding of our own and the package's decoder; errors; real demonstrations of Push-T."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import fft

from jaxrl.tokenizers import fast as module
from jaxrl.tokenizers.fast import Config, WrongTokens, fast, fit
from tests.tokenizers import bpe_in_python

tokenizers = pytest.importorskip("tokenizers", reason='needs pip install "jaxrl[vla]"')

HORIZON, DIMS = 8, 3


def smooth(count=200, horizon=HORIZON, dims=DIMS, seed=0):
    """Random chunks of few frequencies, within [-1, 1]."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, horizon)[None, :, None]
    a, b, c = rng.uniform(-1, 1, (3, count, 1, dims))
    return ((a + b * np.sin(2 * np.pi * time) + c * time) / 3).astype(np.float32)


CHUNKS = smooth()
CONFIG = Config(vocabulary=200)
DEFINITION = fit(CONFIG, CHUNKS)
FAST = fast(DEFINITION)
TOKENS, _ = FAST.encode(CHUNKS)


def whole(chunks, scale=10.0):
    return np.around(fft.dct(chunks.astype(np.float64), axis=1, norm="ortho") * scale).astype(int)


def texts(chunks, minimum, scale=10.0):
    return ["".join(chr(n - minimum) for n in one.ravel()) for one in whole(chunks, scale)]


def test_numbers_are_scipys_lowest_frequency_first():
    decoded = FAST.decode(TOKENS)
    np.testing.assert_array_equal(decoded.numbers, whole(CHUNKS))
    assert DEFINITION.minimum == whole(CHUNKS).min() and DEFINITION.maximum == whole(CHUNKS).max()
    np.testing.assert_allclose(decoded.chunks, fft.idct(whole(CHUNKS) / 10.0, axis=1, norm="ortho"), atol=1e-6)
    np.testing.assert_array_equal(decoded.known, HORIZON * DIMS)
    assert not any(decoded.faults)


def test_error_in_the_root_mean_square_is_that_of_rounding():
    error = FAST.decode(TOKENS).chunks - CHUNKS
    assert np.sqrt((error**2).mean(1)).max() <= 0.5 / CONFIG.scale
    finer = fast(fit(Config(50.0, 500), CHUNKS))
    error = finer.decode(finer.encode(CHUNKS)[0]).chunks - CHUNKS
    assert np.sqrt((error**2).mean(1)).max() <= 0.5 / 50.0


def test_a_coarse_scale_is_shorter():
    definition = fit(Config(4.0, 200), CHUNKS)
    coarse = module.compression(definition, fast(definition).encode(CHUNKS)[0])
    assert coarse > module.compression(DEFINITION, TOKENS) > 1.5
    assert module.compression(DEFINITION, TOKENS) == pytest.approx(CHUNKS.size / sum(map(len, TOKENS)))


@pytest.mark.parametrize("split", [True, False], ids=["words", "whole"])
def test_merges_are_those_of_a_trainer_of_our_own(split):
    chunks = smooth(60, seed=1)
    definition = fit(Config(vocabulary=120, words=split), chunks)
    corpus = texts(chunks, definition.minimum)
    assert definition.maximum - definition.minimum < 128
    vocabulary = definition.bpe["model"]["vocab"]
    pieces = module._bytes.pieces(definition.bpe)
    size = definition.maximum - definition.minimum + 1
    alphabet = [pieces[i] for i in range(size)]
    assert sorted(alphabet) == [bytes([i]) for i in range(size)], "the bytes of the whole range, and no others"
    tokens, merges = bpe_in_python.train(corpus, 120, alphabet, split)
    assert len(merges) > 20 and {piece: i for i, piece in pieces.items()} == tokens
    letters = {token: pieces[i] for token, i in vocabulary.items()}
    assert [tuple(letters[part] for part in pair) for pair in definition.bpe["model"]["merges"]] == merges
    found, _ = fast(definition).encode(chunks)
    assert found == [bpe_in_python.encode(text, tokens, merges, split) for text in corpus]


def test_characters_of_several_bytes():
    """Beyond 128 a character is two bytes, which different tokens may hold."""
    chunks, scale = 40 * smooth(100, seed=2), 10.0
    definition = fit(Config(scale, 600), chunks)
    assert definition.maximum - definition.minimum > 1000
    tokens, clipped = fast(definition).encode(chunks)
    assert not clipped
    np.testing.assert_array_equal(fast(definition).decode(tokens).numbers, whole(chunks, scale))
    package = tokenizers.Tokenizer.from_str(json.dumps(definition.bpe))
    assert package.decode_batch(tokens) == texts(chunks, definition.minimum, scale)


def test_numbers_that_no_chunk_had_have_tokens():
    chunks = np.zeros((20, HORIZON, DIMS), np.float32)
    chunks[0, :, 0], chunks[1, :, 0] = 1.0, -1.0
    definition = fit(Config(vocabulary=100), chunks)
    middle = np.full((1, HORIZON, DIMS), 0.3, np.float32)
    assert not set(whole(middle).ravel()) <= set(whole(chunks).ravel())
    tokens, clipped = fast(definition).encode(middle)
    np.testing.assert_array_equal(fast(definition).decode(tokens).numbers, whole(middle))
    assert clipped == 0


def test_numbers_beyond_the_range_are_clipped_and_counted():
    tokens, clipped = FAST.encode(5 * CHUNKS)
    inside = whole(5 * CHUNKS).clip(DEFINITION.minimum, DEFINITION.maximum)
    np.testing.assert_array_equal(FAST.decode(tokens).numbers, inside)
    assert clipped == (inside != whole(5 * CHUNKS)).sum() > 0


def test_order_does_not_matter_and_a_file_holds_everything(tmp_path):
    assert fit(CONFIG, CHUNKS[::-1]) == DEFINITION
    module.save(DEFINITION, tmp_path / "tokenizer.json")
    again = module.load(tmp_path / "tokenizer.json")
    assert again == DEFINITION and fast(again).encode(CHUNKS)[0] == TOKENS
    script = f"""
import sys
sys.modules["tokenizers"] = None
from jaxrl.tokenizers.fast import fast, load
tokenizer = fast(load({str(tmp_path / "tokenizer.json")!r}))
print(tokenizer.decode({TOKENS[:2]}).numbers.ravel().tolist())
try:
    tokenizer.encode(tokenizer.decode({TOKENS[:2]}).chunks)
except ImportError as error:
    print(error)
"""
    lines = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert json.loads(lines[0]) == whole(CHUNKS[:2]).ravel().tolist(), "decoding needs no package"
    assert 'pip install "jaxrl[vla]"' in lines[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "is no FAST tokenizer .*of version 2, and this code reads 'fast' of version 1"),
        ({"tokenizer": "slow"}, "tokenizer 'slow'"),
        ({"more": 1}, "unexpected keyword argument 'more'"),
        ({"horizon": 0}, "horizon, dims and scale must be positive"),
        ({"scale": float("nan")}, "horizon, dims and scale must be positive"),
        ({"horizon": 8.5}, "horizon"),
        ({"maximum": 10**9}, "horizon, dims and scale must be positive"),
        ({"bpe": {}}, "'model'"),
        ({"bpe": {"model": {"vocab": {}}}}, "is no FAST tokenizer .*its vocabulary is empty"),
        ({"bpe": {"model": {"vocab": {"a": "b"}}}}, "does not number its tokens"),
    ],
)
def test_other_files_are_refused(change, message, tmp_path):
    path = tmp_path / "tokenizer.json"
    module.save(DEFINITION, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        module.load(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="tokenizer.json: is no FAST tokenizer"):
        module.load(path)


LOWEST = [DEFINITION.bpe["model"]["vocab"]["Ā"]]  # of the byte 0, hence the number `minimum`
WRONG = {
    "short": (TOKENS[0][:-1], "numbers, but a chunk of \\(8, 3\\) has 24"),
    "empty": ([], "the tokens make 0 numbers, but a chunk of \\(8, 3\\) has 24"),
    "long": (TOKENS[0] + LOWEST, "the tokens make 25 numbers, but a chunk of \\(8, 3\\) has 24"),
    "unknown": ([*TOKENS[0], FAST.size, -1], f"2 of .* tokens are unknown, the first is {FAST.size}"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tokens_are_refused_or_zeros_that_are_told(name):
    tokens, message = WRONG[name]
    with pytest.raises(WrongTokens, match=f"sequence 1 of 2: .*{message}"):
        FAST.decode([TOKENS[0], tokens])
    decoded = FAST.decode([TOKENS[0], tokens], faults="zeros")
    assert [bool(fault) for fault in decoded.faults] == [False, True] and decoded.known.tolist() == [24, 0]
    assert not decoded.chunks[1].any() and (decoded.chunks[0] == FAST.decode(TOKENS[:1]).chunks[0]).all()


def test_bytes_that_are_no_characters_and_numbers_beyond_the_range_are_refused():
    definition = fit(Config(10.0, 600), 40 * smooth(100, seed=2))
    tokenizer = fast(definition)
    single = {piece: i for i, piece in module._bytes.pieces(definition.bpe).items() if len(piece) == 1}
    lead, follow = single[b"\xc3"], single[b"\x80"]
    with pytest.raises(WrongTokens, match="bytes that make no characters"):
        tokenizer.decode([[follow] * 24])
    with pytest.raises(WrongTokens, match="bytes that make no characters"):
        tokenizer.decode([[single[b"\x01"]] * 23 + [lead]])
    assert tokenizer.decode_prefix([[single[b"\x01"]] * 23 + [lead]]).known == [23], "cut off within a character"
    beyond = bytes(chr(definition.maximum - definition.minimum + 1).encode())
    with pytest.raises(WrongTokens, match=f"the number {definition.maximum + 1}, but none in the fitted range is above"):
        tokenizer.decode([[single[beyond[i : i + 1]] for i in range(len(beyond))] + [single[b"\x01"]] * 23])


@pytest.mark.parametrize("count", [0, 3, 7, 24])
def test_the_first_numbers_are_the_lowest_frequencies(count):
    decoded = FAST.decode_prefix(TOKENS, count)
    kept = whole(CHUNKS).reshape(len(CHUNKS), -1)
    kept[:, count:] = 0
    np.testing.assert_array_equal(decoded.numbers.reshape(len(CHUNKS), -1), kept)
    np.testing.assert_allclose(decoded.chunks, fft.idct(kept.reshape(CHUNKS.shape) / 10.0, axis=1, norm="ortho"), atol=1e-6)
    if count == DIMS:
        np.testing.assert_allclose(decoded.chunks, np.broadcast_to(CHUNKS.mean(1, keepdims=True), CHUNKS.shape), atol=0.02)


def test_a_sequence_that_is_cut_off_tells_what_it_has():
    cut = [ids[: len(ids) // 2] for ids in TOKENS]
    decoded = FAST.decode_prefix(cut)
    flat, full = decoded.numbers.reshape(len(cut), -1), whole(CHUNKS).reshape(len(cut), -1)
    for row, known in enumerate(decoded.known):
        np.testing.assert_array_equal(flat[row, :known], full[row, :known])
        assert not flat[row, known:].any() and 0 < known < 24
    error = [np.abs(FAST.decode_prefix([ids[:n] for ids in TOKENS]).chunks - CHUNKS).mean() for n in (1, 4, 12)]
    assert error[0] > error[1] > error[2]
    with pytest.raises(WrongTokens, match="25 numbers"):
        FAST.decode_prefix([TOKENS[0] + LOWEST])


def test_the_device_does_what_follows_the_characters():
    decoded = FAST.decode(TOKENS)
    np.testing.assert_array_equal(jax.jit(module.numbers, static_argnums=1)(jnp.asarray(CHUNKS), 10.0), decoded.numbers)
    np.testing.assert_allclose(jax.jit(module.chunks, static_argnums=1)(jnp.asarray(decoded.numbers), 10.0), decoded.chunks, atol=1e-6)


def test_a_single_number_that_never_changes():
    definition = fit(CONFIG, np.full((3, 1, 1), 0.25, np.float32))
    tokens, _ = fast(definition).encode(np.zeros((1, 1, 1), np.float32))
    numbers, whole = module.read(definition, module.pieces(definition), jnp.asarray(tokens), jnp.array([len(tokens[0])]))
    assert whole.all() and numbers.ravel().tolist() == fast(definition).decode(tokens).numbers.ravel().tolist() == [2]


def test_what_is_far_beyond_the_range_keeps_its_sign():
    far, clipped = FAST.encode(np.full((1, HORIZON, DIMS), 1e30, np.float32))
    assert clipped > 0 and FAST.decode(far).numbers[0, 0].tolist() == [DEFINITION.maximum] * DIMS


@pytest.mark.parametrize("size", [1.0, 40.0, 400.0])  # of what is encoded: characters of one, two and three bytes
def test_the_device_reads_as_the_host_does(size):
    draws = np.random.default_rng(0)
    definition = fit(Config(10.0, 600), size * smooth(60, seed=2))
    tokenizer = fast(definition)
    right, _ = tokenizer.encode(size * smooth(60, seed=3))
    swapped = [
        ids[:n] + [int(draws.integers(tokenizer.size))] + ids[n + 1 :] for n, ids in zip(draws.integers(0, 5, 60), right, strict=True)
    ]
    odd = [list(map(int, draws.integers(0, tokenizer.size, n))) for n in draws.integers(1, 40, 300)]
    sequences = right + swapped + [ids[:-1] for ids in right] + odd + [[], [tokenizer.size], [*right[0], -1]]
    tokens = np.full((len(sequences), max(map(len, sequences)) + 2), 7, np.int32)  # what is behind them does not matter
    for row, ids in enumerate(sequences):
        tokens[row, : len(ids)] = ids
    count = np.array([len(ids) for ids in sequences])
    numbers, whole = jax.jit(lambda *x: module.read(definition, module.pieces(definition), *x))(tokens, count)
    decoded = tokenizer.decode(sequences, faults="zeros")
    np.testing.assert_array_equal(whole, [not fault for fault in decoded.faults])
    np.testing.assert_array_equal(numbers, decoded.numbers)
    assert 60 <= whole.sum() < 180, "some of each kind"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit(CONFIG, np.zeros((3, 4), np.float32)), "chunks \\[N, horizon, dims\\], got the shape \\(3, 4\\)"),
        (lambda: fit(CONFIG, np.full((3, 4, 2), np.nan)), "3 of 3 chunks are not finite"),
        (lambda: fit(Config(vocabulary=20), CHUNKS), "takes .* tokens, but vocabulary is 20"),
        (lambda: fit(CONFIG, 1e5 * CHUNKS), "more than characters; normalise"),
        (lambda: FAST.encode(CHUNKS[:, :5]), "takes chunks \\[N, 8, 3\\], got the shape \\(200, 5, 3\\)"),
        (lambda: FAST.decode_prefix(TOKENS, 25), "count is 25, but a chunk of \\(8, 3\\) has from 0 to 24 numbers"),
        (lambda: Config(scale=0.0), "scale is 0.0, but must be positive"),
        (lambda: Config(vocabulary=1), "vocabulary must be at least 2"),
    ],
)
def test_impossible_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def pusht(test_data, horizon, stride):
    """Chunks of the real actions, normalised by their quantiles at 1 % and 99 % as in the paper."""
    zarr = pytest.importorskip("zarr", reason='needs pip install "jaxrl[data]"')
    data = zarr.open(str(test_data / "pusht_human" / "pusht_cchi_v7_replay.zarr"), mode="r", zarr_format=2)
    action, ends = np.asarray(data["data/action"][:], np.float32), np.asarray(data["meta/episode_ends"][:])
    low, high = np.quantile(action, [0.01, 0.99], axis=0)
    action = (action - low) / (high - low) * 2 - 1
    starts = [i for begin, end in zip([0, *ends[:-1]], ends, strict=True) for i in range(begin, end - horizon + 1, stride)]
    return np.stack([action[i : i + horizon] for i in starts]).astype(np.float32)


def test_real_demonstrations(test_data):
    chunks = pusht(test_data, 16, 4)
    learnt, held_out = chunks[: len(chunks) * 4 // 5], chunks[len(chunks) * 4 // 5 :]
    definition = fit(Config(), learnt)
    tokenizer = fast(definition)
    tokens, clipped = tokenizer.encode(held_out)
    decoded = tokenizer.decode(tokens)
    ratio, error = module.compression(definition, tokens), np.abs(decoded.chunks - held_out)
    print(
        f"{len(held_out)} chunks of 16 x 2: {ratio:.2f} numbers per token, error {error.mean():.4f} on average, {error.max():.3f} at most"
    )
    assert clipped <= 0.001 * held_out.size
    assert ratio > 4.0 and error.mean() < 0.02
    assert np.sqrt((error**2).mean((0, 1))).max() <= 0.5 / definition.scale
