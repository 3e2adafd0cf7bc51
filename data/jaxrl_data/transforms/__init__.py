"""Changes of samples, one small frozen callable per file: the same list serves training and, mirrored, the robot."""
