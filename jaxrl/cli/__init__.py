"""The commands: train, eval, diagnose, render, view, data, info, list."""
