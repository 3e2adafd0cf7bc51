"""MuJoCo and tasks. Imports jaxrl.types and jaxrl.ops, nothing else of jaxrl."""
