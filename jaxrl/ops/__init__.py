"""Arrays in, arrays out: returns, running statistics, rotations. No networks, no state."""
