"""Policies around policies, one file each, and a few plain ones. A name in a config is the file's module path."""
