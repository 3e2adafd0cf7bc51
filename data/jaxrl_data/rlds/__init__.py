"""Data sets in RLDS: one record per episode, written by tensorflow-datasets. TensorFlow is imported inside functions only."""
