"""What is said between a policy, a client and a robot. Everything but the .proto files and generate.py is generated."""
