"""Data sets of LeRobot, versions 2.0, 2.1 and 3.0: rows in parquet files, cameras in video files."""
