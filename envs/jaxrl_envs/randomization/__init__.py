"""Domain randomisation: typed physics parameters, how they are drawn, and what they do."""

from jaxrl_envs.randomization.parameters import QUANTITIES, Parameters, Ranges
from jaxrl_envs.randomization.ranges import Range
from jaxrl_envs.randomization.space import Randomised, randomised

__all__ = ["QUANTITIES", "Parameters", "Randomised", "Range", "Ranges", "randomised"]
