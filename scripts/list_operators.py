"""List the operators and what they cost: `python scripts/list_operators.py`."""

import sys

from nas.commands.operators import list_operators

if __name__ == "__main__":
    sys.exit(list_operators())
