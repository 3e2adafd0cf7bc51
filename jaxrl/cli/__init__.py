"""The commands: train, eval, render, info, list."""
