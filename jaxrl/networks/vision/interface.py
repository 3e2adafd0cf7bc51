"""What a backbone makes of pictures."""

from collections.abc import Callable
from typing import NamedTuple

from jaxrl.types import Array, StatefulNetwork


class Features(NamedTuple):
    """Of pictures [B, height, width, 3]."""

    map: Array  # [B, rows, columns, C], row 0 at the top
    tokens: Array  # [B, n, C]: the class token and then registers, of a network that has some


class Backbone(NamedTuple):
    """`network` maps float32 pictures [B, height, width, 3], of which `mean` was subtracted before `deviation` divided, to `Features`."""

    network: StatefulNetwork
    size: int  # C
    tokens: int  # beside the map
    grid: Callable[[int, int], tuple[int, int]]  # height, width -> rows, columns; raises ValueError where pictures of that size do not fit
    mean: tuple[float, float, float]  # of red, green and blue in [0, 1]
    deviation: tuple[float, float, float]
    family: str  # whose names its weights go by, see `pretrained`


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
UNIT = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # pictures in [-1, 1]
