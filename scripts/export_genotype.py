"""Print a genotype in another form: `python scripts/export_genotype.py darts_v2 --format nni`."""

import sys

from nas.commands.interchange import export_genotype

if __name__ == "__main__":
    sys.exit(export_genotype())
