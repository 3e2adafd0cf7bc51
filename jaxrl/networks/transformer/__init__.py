"""Transformers of large language models and of policies on top of them: RMS norms, rotary positions, grouped queries, gated MLPs."""
