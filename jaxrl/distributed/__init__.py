"""The devices of a run as a mesh."""
