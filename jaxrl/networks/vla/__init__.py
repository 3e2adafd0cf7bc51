"""Policies on top of models that see and read: a prefix of pictures and words that is read once, and what they say or do behind it."""
