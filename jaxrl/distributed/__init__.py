"""Meshes, sharding rules and hosts."""
