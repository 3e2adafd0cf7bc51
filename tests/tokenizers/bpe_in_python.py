"""Byte-pair encoding as plain as it gets: an independent trainer and encoder (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909)."""

import re
from collections import Counter

# GPT-2's words, of characters below 128.
WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\t-\r A-Za-z0-9]+|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]+")


def words(text, split):
    """The text in pieces that merges stay within, each as its bytes."""
    parts = WORDS.findall(text) if split else [text]
    assert "".join(parts) == text
    return [tuple(bytes([byte]) for byte in part.encode()) for part in parts]


def merged(word, pair):
    out, i = [], 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def train(texts, size, alphabet, split, min_frequency=2):
    """Merges in order; `alphabet` holds the bytes in the order of their tokens. Of pairs as frequent the one with the earlier tokens."""
    counts = Counter(word for text in texts for word in words(text, split))
    tokens, merges = {piece: i for i, piece in enumerate(alphabet)}, []
    while len(tokens) < size:
        pairs = Counter()
        for word, count in counts.items():
            for pair in zip(word, word[1:], strict=False):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], tokens[pair[0]], tokens[pair[1]]))
        if pairs[best] < min_frequency:
            break
        merges.append(best)
        tokens.setdefault(best[0] + best[1], len(tokens))
        following = Counter()
        for word, count in counts.items():
            following[merged(word, best)] += count
        counts = following
    return tokens, merges


def encode(text, tokens, merges, split):
    ids = []
    for word in words(text, split):
        for pair in merges:
            word = merged(word, pair)
        ids += [tokens[piece] for piece in word]
    return ids
