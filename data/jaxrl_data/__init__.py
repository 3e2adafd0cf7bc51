"""Robot data on disk and over the network. Imports jaxrl.types and jaxrl.ops, nothing else of jaxrl."""
