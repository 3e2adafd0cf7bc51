"""Episodes and batches from any Env: auto-reset, the reset pool, collectors, the rollout source."""
