"""Policies that somebody wrote, one per task: they know the task, and learn nothing."""
