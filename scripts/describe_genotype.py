"""Count what a genotype's network costs: `python scripts/describe_genotype.py darts_v2`."""

import sys

from nas.commands.genotypes import describe_genotype

if __name__ == "__main__":
    sys.exit(describe_genotype())
