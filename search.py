"""Search for a cell: `python search.py --space darts+sandglass`."""

import sys

from nas.cli import search

if __name__ == "__main__":
    sys.exit(search())
