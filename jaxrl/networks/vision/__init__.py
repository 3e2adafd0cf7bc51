"""From pictures to features, with weights that others have trained."""
