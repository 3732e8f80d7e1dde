"""Take over a network of DARTS' own code: `python scripts/import_reference.py model.pt darts_v2 --out weights.pt`."""

import sys

from nas.commands.interchange import import_reference

if __name__ == "__main__":
    sys.exit(import_reference())
