"""The one loop and what surrounds it: sources, metrics, checkpoints, callbacks."""
