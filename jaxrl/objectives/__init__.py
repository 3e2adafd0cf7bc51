"""Losses with their samplers, one flat file each."""
