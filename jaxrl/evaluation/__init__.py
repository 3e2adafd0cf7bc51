"""What a policy is worth: evaluation with confidence intervals, learning curves and videos."""
