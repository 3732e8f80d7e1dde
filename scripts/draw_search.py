"""Draw how a search's cells changed: `python scripts/draw_search.py RUN --out search.gif`."""

import sys

from nas.commands.animation import animate_search

if __name__ == "__main__":
    sys.exit(animate_search())
