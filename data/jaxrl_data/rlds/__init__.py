"""RLDS: data sets of TensorFlow Datasets whose elements are episodes."""
