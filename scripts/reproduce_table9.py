"""Measure the paper's Table 9: `python scripts/reproduce_table9.py --preset cpu`."""

import sys

from nas.commands.table9 import reproduce_table9

if __name__ == "__main__":
    sys.exit(reproduce_table9())
