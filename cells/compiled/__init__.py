"""The same sums in fewer passes over memory, for training on a CPU; the plain ones stand in cells/supernet.py."""
