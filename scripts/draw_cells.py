"""Draw a genotype's cells: `python scripts/draw_cells.py darts_v2 --out pictures`."""

import sys

from nas.commands.genotypes import draw_cells

if __name__ == "__main__":
    sys.exit(draw_cells())
