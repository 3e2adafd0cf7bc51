"""The commands: train, eval, diagnose, render, view, weights, export, serve, data, info, list."""
