"""Write a trained network as files for use elsewhere: `python scripts/export_network.py RUN --format torch python`."""

import sys

from nas.commands.interchange import export_network

if __name__ == "__main__":
    sys.exit(export_network())
