"""Layouts that have no metadata of their own: zarr replay buffers and HDF5 demonstrations."""
