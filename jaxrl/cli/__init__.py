"""The commands: train, eval, diagnose, render, view, weights, data, info, list."""
