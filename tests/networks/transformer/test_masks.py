"""Masks and places against loops, and rotary positions against what they are for."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.networks.transformer.masks import block_mask, places, written_mask
from jaxrl.networks.transformer.rotary import rotary

RNG = np.random.default_rng(0)
VALID, STARTS = RNG.random((6, 9)) < 0.7, RNG.random((6, 9)) < 0.4


def test_a_token_sees_its_block_and_those_before():
    ours = block_mask(jnp.asarray(VALID), jnp.asarray(STARTS))
    assert ours.dtype == bool
    for row, (valid, starts) in enumerate(zip(VALID, STARTS, strict=True)):
        block, blocks = 0, []
        for start in starts:
            block += start
            blocks.append(block)
        for i in range(9):
            for j in range(9):
                assert ours[row, i, j] == (valid[i] and valid[j] and blocks[j] <= blocks[i]), (row, i, j)


def test_the_masks_that_policies_use():
    """By hand: of a prefix of two that sees itself, a state and two actions (pi0); of a prefix and text (PaliGemma)."""
    everything = jnp.ones((1, 5), bool)
    pi0 = [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    np.testing.assert_array_equal(block_mask(everything, jnp.array([[0, 0, 1, 1, 0]]))[0], pi0)
    text = [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    np.testing.assert_array_equal(block_mask(everything, jnp.array([[0, 0, 1, 1, 1]]))[0], text)


def test_padding_takes_no_room():
    ours = places(jnp.asarray(VALID))
    for row, valid in enumerate(VALID):
        before = 0
        for i in np.flatnonzero(valid):
            assert ours[row, i] == before
            before += 1


def test_slots_are_seen_once_they_are_written():
    ours = jax.jit(lambda place: written_mask(jnp.asarray(VALID), place, 3))(4)
    for row, valid in enumerate(VALID):
        for i in range(3):
            for slot in range(9):
                assert ours[row, i, slot] == (valid[slot] and slot <= 4 + i), (row, i, slot)


def test_products_of_turned_vectors_tell_distances_alone():
    query, key = (jnp.asarray(RNG.standard_normal((1, 1, 2, 8)).astype(np.float32)) for _ in range(2))

    def product(at, behind):
        turned = [rotary(x, jnp.array([[place]]), 100.0) for x, place in ((query, at), (key, at - behind))]
        return (turned[0] * turned[1]).sum(-1)

    for behind in (0, 1, 5):
        np.testing.assert_allclose(product(7, behind), product(40, behind), atol=1e-4)
    assert np.abs(product(7, 1) - product(7, 5)).max() > 0.1
    np.testing.assert_allclose(product(3, 0), (query * key).sum(-1), atol=1e-5)


def test_planes_turn_at_their_rates():
    x, place = RNG.standard_normal(8), 3
    turned = np.empty(8)
    for i in range(4):
        angle = place / 50.0 ** (2 * i / 8)
        turned[[i, i + 4]] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ x[[i, i + 4]]
    ours = rotary(jnp.asarray(x, jnp.float32)[None, None, None], jnp.array([[place]]), 50.0)
    np.testing.assert_allclose(ours[0, 0, 0], turned, atol=1e-6)
    low = rotary(jnp.ones((1, 1, 1, 8), jnp.bfloat16), jnp.array([[1000]]), 1e4)
    assert low.dtype == jnp.bfloat16
    exact = rotary(jnp.ones((1, 1, 1, 8)), jnp.array([[1000]]), 1e4)
    np.testing.assert_allclose(low.astype(jnp.float32), exact, atol=0.01)  # angles are not rounded
