"""Where it computes: devices, several processes, CUDA graphs."""
