"""Search for a cell: `python search.py --space darts+sandglass`."""

import sys

from nas.commands.search import search

if __name__ == "__main__":
    sys.exit(search())
