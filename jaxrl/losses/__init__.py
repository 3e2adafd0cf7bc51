"""Per-element losses: no mean and no network inside."""
