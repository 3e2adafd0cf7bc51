"""Losses that tell what belongs together from what does not."""

import jax

from jaxrl.types import Array


def info_nce(scores: Array) -> Array:
    """`-log softmax(scores)[0]`, [...], of `scores` [..., 1 + N] whose first is that of the positive, the others of negatives.

    Of an energy model the scores are its energies, negative (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748, equation 4;
    Florence et al. 2021, https://arxiv.org/abs/2109.00137).
    """
    return jax.nn.logsumexp(scores, -1) - scores[..., 0]
