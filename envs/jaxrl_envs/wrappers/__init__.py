"""Environments around environments, one file each. A name in a config is the file's module path."""
