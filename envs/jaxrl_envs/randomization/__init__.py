"""Domain randomisation: typed physics parameters and the distributions they are drawn from."""

from jaxrl_envs.randomization.parameters import Parameters, Ranges, distribution, nominal

__all__ = ["Parameters", "Ranges", "distribution", "nominal"]
