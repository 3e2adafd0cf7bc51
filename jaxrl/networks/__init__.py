"""The only place that knows flax: factories of NamedTuples of pure functions that share one parameter tree."""
