"""One run, one folder: its files, its lock, its checkpoints, its signals."""
