"""Domain randomisation: typed physics parameters and the distributions they are drawn from."""

from jaxrl_envs.randomization.parameters import UNITS, Parameters, Ranges, distribution, nominal

__all__ = ["UNITS", "Parameters", "Ranges", "distribution", "nominal"]
