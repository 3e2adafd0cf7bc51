"""LeRobot data sets: parquet and video."""
