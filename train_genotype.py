"""Train the network of a genotype and test it: `python train_genotype.py`."""

import sys

from nas.commands.train import train

if __name__ == "__main__":
    sys.exit(train())
