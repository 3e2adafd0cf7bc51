"""Action distributions as pure functions of their parameters."""
