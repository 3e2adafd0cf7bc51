"""Policy -> Policy wrappers."""
