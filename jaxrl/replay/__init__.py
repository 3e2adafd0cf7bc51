"""Stored experience: recordings of episodes, and sources that draw batches from memory."""
