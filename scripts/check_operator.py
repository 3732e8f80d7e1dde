"""Test the operator contract: `python scripts/check_operator.py NAME --plugin my_block.py`."""

import sys

from nas.commands.operators import check_operator

if __name__ == "__main__":
    sys.exit(check_operator())
