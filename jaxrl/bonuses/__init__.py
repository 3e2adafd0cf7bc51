"""Rewards that an algorithm pays itself for finding what is new, as wrappers of algorithms."""
