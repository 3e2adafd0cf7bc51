"""Finds the packages, which live under three roots; everything else is in setup.cfg."""

from setuptools import find_packages, setup

roots = {"jaxrl": ".", "jaxrl_envs": "envs", "jaxrl_data": "data"}
setup(
    packages=[found for name, root in roots.items() for found in find_packages(root, include=[name, f"{name}.*"])],
    package_dir={"jaxrl_envs": "envs/jaxrl_envs", "jaxrl_data": "data/jaxrl_data"},
)
