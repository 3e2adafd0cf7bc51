"""The robot's side of jaxrl's bridge: numpy, gRPC and protobuf, no JAX. Import the module you need; this one loads nothing."""

__version__ = "0.1.0"
