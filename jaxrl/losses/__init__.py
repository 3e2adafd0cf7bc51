"""Losses as plain equations: no mean over the batch and no network inside."""
