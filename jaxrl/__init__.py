"""Robot learning in JAX: pure functions from simulation to the robot. Import the module you need; this one loads nothing."""

__version__ = "0.1.0"
