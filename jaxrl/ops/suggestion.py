"""What a misspelt name may have meant."""

import difflib
from collections.abc import Sequence


def suggestion(word: str, words: Sequence[str]) -> str:
    """The end of a message about `word`, which is none of `words`: the nearest of them, or all where none is near."""
    nearest = difflib.get_close_matches(word, words, n=1)
    if nearest:
        return f"did you mean {nearest[0]}?"
    return f"there are {', '.join(words)}" if words else "there are none"
