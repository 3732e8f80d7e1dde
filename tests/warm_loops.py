"""Compiles the loops of cells/compiled into Numba's cache, before the tests: `warm_loops.py float32`, or float64."""

import sys

import torch

from cells.execution import Execution
from cells.supernet import Supernet
from search_spaces.space import load_space

if __name__ == "__main__":
    torch.set_num_threads(1)
    supernet = Supernet(load_space("darts+ir+sandglass"), 4, 3, 3, Execution()).to(getattr(torch, sys.argv[1]))
    supernet(torch.randn(2, 3, 8, 8).to(supernet.alphas()[0].dtype)).sum().backward()
